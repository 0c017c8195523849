"""Handlers of requests that the pages of patches and those of circles share."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from craters.review.call import FOREVER, Call, key_of, path_number, png_of, skipped, wanted
from craters.review.map import view

if TYPE_CHECKING:
    from craters.review.scan_source import ImageReaders


class SharedPages(ABC):
    """Request handlers: each method maps a `Call` to the content of its page.

    Parameters
    ----------
    session : ReviewSession or CircleSession
    reviewer : str
        Default name on the start page.
    """

    ahead: ClassVar[int]  # items of the queue in one reply, at most

    def __init__(self, session: Any, reviewer: str) -> None:
        self.session, self.reviewer = session, reviewer
        self.mark = secrets.token_hex(4)  # part of cached URLs; new for each server start

    @abstractmethod
    def parsed(self, content: Any) -> list[Any]:
        """Parse the answers of a request."""

    @abstractmethod
    def readers(self) -> ImageReaders:
        """Return what reads the images of the scan."""

    def common(self, call: Call) -> dict[str, Any]:
        """Return the content common to all pages."""
        source = self.session.source
        content = {
            "who": call.who, "mark": self.mark, "root": call.root, "target": source.target.name,
            "kind": source.kind, "notes": self.session.notes,
        }  # fmt: skip
        return content | ({"counts": self.session.counts(call.who)} if call.who else {})

    def welcome(self, call: Call) -> dict[str, Any]:
        """Show the start page: choose a reviewer name."""
        self.session.counts(call.who)
        names = self.session.tally.reviewers()
        return {"names": names, "offered": self.reviewer, "patches": len(self.session.source)}

    def more(self, call: Call) -> dict[str, Any]:
        """Return further items, except those that the page already has."""
        return {"next": self._more(call, call.content())}

    def _more(self, call: Call, content: dict[str, Any]) -> list[dict[str, Any]]:
        want, skip = wanted(content, self.ahead), skipped(content)
        if not want:
            return []
        show = "disputed" if content.get("show") == "disputed" else "mix"
        items: list[dict[str, Any]] = self.session.queue(call.who, count=want, skip=skip, show=show)
        return items

    def answers(self, call: Call) -> dict[str, Any]:
        """Store answers; they are on disk before the response."""
        content = call.content()
        key = key_of(content)
        reply = self.session.add(call.who, self.parsed(content.get("answers")), key)
        return dict(reply) | {
            "counts": self.session.counts(call.who),
            "next": self._more(call, content),
        }

    def undo(self, call: Call) -> dict[str, Any]:
        """Undo the last answers of a reviewer."""
        reply = self.session.undo(call.who, key_of(call.content()))
        return dict(reply) | {"counts": self.session.counts(call.who)}

    def train(self, call: Call) -> dict[str, Any]:
        """Start a training with the current labels."""
        call.content()
        return {"number": self.session.retraining.start()}

    def stop(self, call: Call) -> dict[str, Any]:
        """Stop the running training."""
        call.content()
        self.session.retraining.stop()
        status: dict[str, Any] = self.session.retraining.to_dict()
        return status

    def window(self, request: Request) -> Response:
        """Return a square of an image of a scan as PNG."""
        names = ("image", "shrink", "top", "left")
        pixels = view(self.readers(), *(path_number(request, name) for name in names))
        return Response(png_of(pixels), media_type="image/png", headers=FOREVER)
