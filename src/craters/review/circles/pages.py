"""Pages of a review of circles: HTML and JSON from the same handlers."""

from __future__ import annotations

import math
from typing import Any

from starlette.routing import Route

from craters.errors import ConfigError
from craters.labels import ANSWERS, COMPLETE, CRATER, Circle
from craters.review.call import (
    Call,
    Page,
    answer_facts,
    answer_items,
)
from craters.review.circles.progress import progress
from craters.review.circles.session import (
    AHEAD,
    MOST_ANSWERS,
    CircleSession,
    ReceivedCircle,
)
from craters.review.map import SQUARE, deepest
from craters.review.pages import SharedPages
from craters.review.scan_source import ImageReaders

_LONGEST = 500  # characters of an id


class CirclePages(SharedPages):
    """Request handlers: each method maps a `Call` to the content of its page.

    Parameters
    ----------
    session : CircleSession
    reviewer : str
        Default name on the start page.
    """

    session: CircleSession
    ahead = AHEAD

    def parsed(self, content: Any) -> list[ReceivedCircle]:
        """Parse the answers of a request."""
        return parse_circles(content)

    def readers(self) -> ImageReaders:
        """Return what reads the images of the scan."""
        return self.session.source.readers

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


def parse_circles(content: Any) -> list[ReceivedCircle]:
    """Parse and validate the answers of a request.

    Raises
    ------
    ConfigError
        If the content is invalid.
    """
    return [_parse_circle_answer(item) for item in answer_items(content, MOST_ANSWERS)]


def _parse_circle_answer(item: dict[str, Any]) -> ReceivedCircle:
    place, image = item.get("place", ""), item.get("image", "")
    for name, text in (("place", place), ("image", image)):
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ConfigError(f"{name}: expected a text")
    if not place and not image:
        raise ConfigError("place: expected the id of a circle or field, or an image to draw on")
    facts = answer_facts(item, (*ANSWERS, COMPLETE))
    is_crater = facts["answer"] == CRATER
    circle = _parse_circle(item.get("circle")) if is_crater else None
    return ReceivedCircle(place=place, image=image, circle=circle, **facts)


def _parse_circle(content: Any) -> Circle:
    names = ("x", "y", "diameter")
    if not isinstance(content, dict) or not all(_is_number(content.get(name)) for name in names):
        raise ConfigError("circle: expected the numbers x, y and diameter")
    return Circle(*(float(content[name]) for name in names))


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9
