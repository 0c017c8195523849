"""Pages of a review of circles: HTML and JSON from the same handlers."""

from __future__ import annotations

import math
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from craters.errors import ConfigError
from craters.labels import ANSWERS, COMPLETE, WHYS, Circle
from craters.review.call import (
    FOREVER,
    Call,
    Page,
    key_of,
    path_number,
    png_of,
    skipped,
    wanted,
)
from craters.review.circles.progress import progress
from craters.review.circles.session import (
    AHEAD,
    MOST_ANSWERS,
    CircleSession,
    ReceivedCircle,
)
from craters.review.map import SQUARE, deepest, view

_LONGEST = 500  # characters of an id


class CirclePages:
    """Request handlers: each method maps a `Call` to the content of its page.

    Parameters
    ----------
    session : CircleSession
    reviewer : str
        Default name on the start page.
    """

    def __init__(self, session: CircleSession, reviewer: str) -> None:
        self.session, self.reviewer = session, reviewer
        self.mark = secrets.token_hex(4)  # part of cached URLs; new for each server start

    def common(self, call: Call) -> dict[str, Any]:
        """Return the content common to all pages."""
        content = {
            "who": call.who, "mark": self.mark, "root": call.root,
            "target": self.session.target.target.name, "kind": "circles",
            "notes": self.session.notes,
        }  # fmt: skip
        return content | ({"counts": self.session.counts(call.who)} if call.who else {})

    def pages(self) -> list[Page]:
        """Return all pages."""
        return [
            ("/", self.welcome, "welcome.html", "GET"),
            ("/as/{who}/queue", self.queue, "circle_queue.html", "GET"),
            ("/as/{who}/next", self.more, "", "POST"),
            ("/as/{who}/answers", self.answers, "", "POST"),
            ("/as/{who}/undo", self.undo, "", "POST"),
            ("/as/{who}/circles", self.circles, "", "GET"),
            ("/as/{who}/map", self.map, "circle_map.html", "GET"),
            ("/as/{who}/progress", self.progress, "circle_progress.html", "GET"),
            ("/as/{who}/train", self.train, "", "POST"),
            ("/as/{who}/stop", self.stop, "", "POST"),
        ]

    def pictures(self) -> list[Route]:
        """Return the addresses of pictures, besides those of a map."""
        return []

    def window(self, request: Request) -> Response:
        """Return a square of an image as PNG."""
        names = ("image", "shrink", "top", "left")
        readers = self.session.source.readers
        pixels = view(readers, *(path_number(request, name) for name in names))
        return Response(png_of(pixels), media_type="image/png", headers=FOREVER)

    def welcome(self, call: Call) -> dict[str, Any]:
        """Show the start page: choose a reviewer name."""
        self.session.counts(call.who)
        names = self.session.tally.reviewers()
        return {"names": names, "offered": self.reviewer, "patches": len(self.session.source)}

    def _images(self) -> list[dict[str, Any]]:
        return [
            {"number": number, "name": image.name, "height": image.height, "width": image.width,
             "deepest": deepest(image.height, image.width)}
            for number, image in enumerate(self.session.source.readers.images)
        ]  # fmt: skip

    def _shared(self) -> dict[str, Any]:
        threshold = self.session.source.candidates.threshold
        return {
            "images": self._images(), "square": SQUARE,
            "threshold": threshold if math.isfinite(threshold) else None,
        }  # fmt: skip

    def queue(self, call: Call) -> dict[str, Any]:
        """Show the next circles and fields of a reviewer, first that named by `place`, if any."""
        show = call.query.get("show", "mix")
        if show not in ("mix", "disputed"):
            raise ConfigError(f"show is {show[:40]!r}, expected mix or disputed")
        first, skip = [], []
        if name := call.query.get("place"):
            with self.session.lock:
                place, row = self.session.find(name)
                first, skip = [self.session.item(place, call.who, row=row)], [name]
        ahead = self.session.queue(call.who, count=4, skip=skip, show=show)
        return {"show": show, "cards": [*first, *ahead]} | self._shared()

    def more(self, call: Call) -> dict[str, Any]:
        """Return further items, except those that the page already has."""
        return {"next": self._more(call, call.content())}

    def _more(self, call: Call, content: dict[str, Any]) -> list[dict[str, Any]]:
        want, skip = wanted(content, AHEAD), skipped(content)
        if not want:
            return []
        show = "disputed" if content.get("show") == "disputed" else "mix"
        return self.session.queue(call.who, count=want, skip=skip, show=show)

    def answers(self, call: Call) -> dict[str, Any]:
        """Store answers; they are on disk before the response."""
        content = call.content()
        key = key_of(content)
        reply = self.session.add(call.who, parse_circles(content.get("answers")), key)
        return reply | {
            "counts": self.session.counts(call.who),
            "next": self._more(call, content),
        }

    def undo(self, call: Call) -> dict[str, Any]:
        """Undo the last answers of a reviewer."""
        reply = self.session.undo(call.who, key_of(call.content()))
        return reply | {"counts": self.session.counts(call.who)}

    def circles(self, call: Call) -> dict[str, Any]:
        """Return the circles that reach into a rectangle of an image."""
        most = 10**8
        left, top = call.number("left", 0, 0, most), call.number("top", 0, 0, most)
        right, bottom = call.number("right", most, 0, most), call.number("bottom", most, 0, most)
        return self.session.circles(
            call.who, call.number("image", 0, 0, 10**6), (left, top, right, bottom),
            call.share("least", 0.0),
        )  # fmt: skip

    def map(self, call: Call) -> dict[str, Any]:
        """Show an image with its circles."""
        number = call.number("image", 0, 0, 10**6)
        shared = self._shared()
        if number >= len(shared["images"]):
            raise ConfigError(f"there is no image {number}")
        return {"image": number} | shared

    def progress(self, call: Call) -> dict[str, Any]:
        """Show the progress of the review."""
        return progress(self.session) | {"you": call.who}

    def train(self, call: Call) -> dict[str, Any]:
        """Start a training with the current circles."""
        call.content()
        return {"number": self.session.retraining.start()}

    def stop(self, call: Call) -> dict[str, Any]:
        """Stop the running training."""
        call.content()
        self.session.retraining.stop()
        return self.session.retraining.to_dict()


def parse_circles(content: Any) -> list[ReceivedCircle]:
    """Parse and validate the answers of a request.

    Raises
    ------
    ConfigError
        If the content is invalid.
    """
    if not isinstance(content, list) or not 1 <= len(content) <= MOST_ANSWERS:
        raise ConfigError(f"answers: expected a list of 1 to {MOST_ANSWERS}")
    return [_parse_circle_answer(item) for item in content]


def _parse_circle_answer(item: Any) -> ReceivedCircle:
    if not isinstance(item, dict):
        raise ConfigError("answers: expected objects")
    place, image = item.get("place", ""), item.get("image", "")
    answer, why, seconds = (item.get(name) for name in ("answer", "why", "seconds"))
    knew, saw = item.get("knew"), item.get("saw_probability", False)
    for name, text in (("place", place), ("image", image)):
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ConfigError(f"{name}: expected a text")
    if not place and not image:
        raise ConfigError("place: expected the id of a circle or field, or an image to draw on")
    if answer not in (*ANSWERS, COMPLETE):
        raise ConfigError(f"answer: expected {', '.join((*ANSWERS, COMPLETE))}")
    if why not in WHYS:
        raise ConfigError(f"why: expected {', '.join(WHYS)}")
    if seconds is not None and not (_is_number(seconds) and 0 <= seconds < 1e6):
        raise ConfigError("seconds: expected a number from 0 up, or nothing")
    if knew is not None and (not isinstance(knew, int) or isinstance(knew, bool)):
        raise ConfigError("knew: expected the number of an entry, or nothing")
    if not isinstance(saw, bool):
        raise ConfigError("saw_probability: expected true or false")
    return ReceivedCircle(
        place=place,
        answer=answer,
        image=image,
        circle=_parse_circle(item.get("circle")) if answer == ANSWERS[0] else None,
        why=why,
        seconds=None if seconds is None else float(seconds),
        saw_probability=saw,
        knew=knew,
    )


def _parse_circle(content: Any) -> Circle:
    names = ("x", "y", "diameter")
    if not isinstance(content, dict) or not all(_is_number(content.get(name)) for name in names):
        raise ConfigError("circle: expected the numbers x, y and diameter")
    return Circle(*(float(content[name]) for name in names))


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9
