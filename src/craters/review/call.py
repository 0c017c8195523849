"""A request of the review page: its parameters, validated."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request

from craters.errors import ConfigError
from craters.labels import WHYS, check_key, check_reviewer

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
DIGITS = 12  # of a number in a request
SKIPS = 1000  # ids that a page may exclude

_LONGEST_TIME = 1e6  # seconds of an answer


class Call:
    """Validated parameters of a request.

    Parameters
    ----------
    request : Request
    body : bytes
    """

    def __init__(self, request: Request, body: bytes) -> None:
        self.query = request.query_params
        self.path, self.root = request.path_params, root_of(request)
        self.who = check_reviewer(self.path["who"]) if "who" in self.path else ""
        self.body = body

    def content(self) -> dict[str, Any]:
        """Return the body, parsed as a JSON object."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ConfigError("the body is not JSON") from error
        if not isinstance(content, dict):
            raise ConfigError("the body is not a JSON object")
        return content

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return an integer of the query string."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > DIGITS:
            raise ConfigError(f"{name} is {text[:40]!r}, expected {least} to {most}")
        return min(max(int(text), least), most)

    def share(self, name: str, default: float) -> float:
        """Return a number from 0 to 1 of the query string."""
        try:
            value = float(self.query.get(name, default))
        except ValueError as error:
            raise ConfigError(f"{name}: expected 0 to 1") from error
        if not 0 <= value <= 1:
            raise ConfigError(f"{name}: expected 0 to 1")
        return value


Handler = Callable[[Call], dict[str, Any]]
Page = tuple[str, Handler, str, str]  # path, handler, template or "" for JSON only, method


def path_number(request: Request, name: str) -> int:
    """Return a number of the path; other words, and numbers of more than 12 digits, are unknown."""
    text = request.path_params[name]
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS:
        raise HTTPException(404)
    return int(text)


def root_of(request: Request) -> str:
    """Return the path that all pages are below."""
    return str(request.scope.get("root_path", ""))


def key_of(content: dict[str, Any]) -> str:
    """Return the idempotency key of a request that changes something."""
    key = content.get("key")
    if not isinstance(key, str) or not key:
        raise ConfigError("key: expected a name for this request, so that it is executed only once")
    return check_key(key)


def skipped(content: dict[str, Any]) -> list[str]:
    """Return the ids that the page has already, or skips."""
    skip = content.get("skip", [])
    if not isinstance(skip, list) or not all(isinstance(name, str) for name in skip):
        raise ConfigError("skip: expected a list of ids")
    if len(skip) > SKIPS:
        raise ConfigError(f"skip: expected at most {SKIPS} ids")
    return skip


def wanted(content: dict[str, Any], most: int) -> int:
    """Return how many further items the page requests."""
    want = content.get("want", 0)
    if not isinstance(want, int) or isinstance(want, bool) or not 0 <= want <= most:
        raise ConfigError(f"want: expected 0 to {most}")
    return want


def answer_items(content: Any, most: int) -> list[dict[str, Any]]:
    """Return the answers of a request as objects.

    Raises
    ------
    ConfigError
        If the content is invalid.
    """
    if not isinstance(content, list) or not 1 <= len(content) <= most:
        raise ConfigError(f"answers: expected a list of 1 to {most}")
    if not all(isinstance(item, dict) for item in content):
        raise ConfigError("answers: expected objects")
    return content


def answer_facts(item: dict[str, Any], answers: tuple[str, ...]) -> dict[str, Any]:
    """Return answer, reason, time, known entry and `saw_probability` of an answer, validated.

    Raises
    ------
    ConfigError
        If one is invalid.
    """
    answer, why, seconds = (item.get(name) for name in ("answer", "why", "seconds"))
    knew, saw = item.get("knew"), item.get("saw_probability", False)
    if answer not in answers:
        raise ConfigError(f"answer: expected {', '.join(answers)}")
    if why not in WHYS:
        raise ConfigError(f"why: expected {', '.join(WHYS)}")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 <= seconds < _LONGEST_TIME):
        raise ConfigError("seconds: expected a number from 0 up, or nothing")
    if knew is not None and (not isinstance(knew, int) or isinstance(knew, bool)):
        raise ConfigError("knew: expected the number of an entry, or nothing")
    if not isinstance(saw, bool):
        raise ConfigError("saw_probability: expected true or false")
    return {
        "answer": answer,
        "why": why,
        "seconds": None if seconds is None else float(seconds),
        "saw_probability": saw,
        "knew": knew,
    }


def png_of(pixels: np.ndarray) -> bytes:
    """Encode 8-bit gray pixels as PNG, fast rather than small."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
