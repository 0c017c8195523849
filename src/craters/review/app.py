"""Web application of the review: HTML and JSON from the same handlers.

Every page is also available as JSON: `Accept: application/json`, or `?format=json`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from craters._version import __version__
from craters.core import page_templates
from craters.errors import ConfigError, CratersError, DataError, ExistsError
from craters.labels import ANSWERS, check_reviewer
from craters.review.call import (
    FOREVER,
    Call,
    Handler,
    Page,
    answer_facts,
    answer_items,
    path_number,
    png_of,
    root_of,
)
from craters.review.map import detections, scan_source
from craters.review.pages import SharedPages
from craters.review.progress import predicting, progress
from craters.review.session import AHEAD, MOST_ANSWERS, ReceivedAnswer, ReviewSession

if TYPE_CHECKING:
    from craters.review.circles import CirclePages, CircleSession
    from craters.review.scan_source import ImageReaders

_NOT_KEPT = {"cache-control": "no-store"}

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATUS = ((ConfigError, 400), (DataError, 404), (ExistsError, 409))
_WIDTH, _HEIGHT = 640, 220  # of the learning curve, px
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 34  # its margins, px


class Pages(SharedPages):
    """Request handlers: each method maps a `Call` to the content of its page.

    Parameters
    ----------
    session : ReviewSession
    reviewer : str
        Default name on the start page.
    """

    session: ReviewSession
    ahead = AHEAD

    def parsed(self, content: Any) -> list[ReceivedAnswer]:
        """Parse the answers of a request."""
        return parse_answers(content)

    def readers(self) -> ImageReaders:
        """Return what reads the images of the scan."""
        return scan_source(self.session).scan.readers

    def queue(self, call: Call) -> dict[str, Any]:
        """Show the next patches of a reviewer, first the one named by `patch`, if any."""
        show = call.query.get("show", "mix")
        if show not in ("mix", "disputed"):
            raise ConfigError(f"show is {show[:40]!r}, expected mix or disputed")
        first, skip = [], []
        if name := call.query.get("patch"):
            first = [self.session.item(self.session.find(name), call.who)]
            skip = [name]
        ahead = self.session.queue(call.who, count=4, skip=skip, show=show)
        return {"show": show, "cards": [*first, *ahead], "predicting": predicting(self.session),
                "keys": key_lines(self.session.source.kind)}  # fmt: skip

    def details(self, call: Call) -> dict[str, Any]:
        """Return probability, given label and votes of a patch."""
        return self.session.details(self.session.find(call.query.get("patch", "")))

    def grid(self, call: Call) -> dict[str, Any]:
        """Show a sorted grid of patches."""
        sort, show = call.query.get("sort", "uncertainty"), call.query.get("show", "open")
        self.session.check_sort(sort, show)
        page = self.session.grid(
            call.who, sort=sort, show=show, page=call.number("page", 1, 1, 10**9),
            reverse=call.number("reverse", 0, 0, 1) == 1,
        )  # fmt: skip
        return page | {"predicting": predicting(self.session)}

    def map(self, call: Call) -> dict[str, Any]:
        """Show the detections of one image of a scan."""
        return detections(
            self.session, call.who, image=call.number("image", 0, 0, 10**6),
            least=call.share("least", 0.0), most=call.share("most", 1.0),
        )  # fmt: skip

    def progress(self, call: Call) -> dict[str, Any]:
        """Show the progress of the review."""
        page = progress(self.session) | {"you": call.who}
        return page | {"curve": curve(page["models"])}

    def pages(self) -> list[Page]:
        """Return all pages."""
        return [
            ("/", self.welcome, "welcome.html", "GET"),
            ("/as/{who}/queue", self.queue, "queue.html", "GET"),
            ("/as/{who}/next", self.more, "", "POST"),
            ("/as/{who}/answers", self.answers, "", "POST"),
            ("/as/{who}/undo", self.undo, "", "POST"),
            ("/as/{who}/details", self.details, "", "GET"),
            ("/as/{who}/grid", self.grid, "grid.html", "GET"),
            ("/as/{who}/map", self.map, "map.html", "GET"),
            ("/as/{who}/progress", self.progress, "progress.html", "GET"),
            ("/as/{who}/train", self.train, "", "POST"),
            ("/as/{who}/stop", self.stop, "", "POST"),
        ]

    def pictures(self) -> list[Route]:
        """Return the addresses of pictures, besides those of a map."""
        return [Route("/patches/{mark}/{number}.png", self.picture)]

    def picture(self, request: Request) -> Response:
        """Return a patch as PNG; with its surroundings if `around=1`."""
        row = path_number(request, "number")
        if row >= len(self.session.source):
            raise HTTPException(404)
        pixels = None
        if request.query_params.get("around") == "1":
            pixels = self.session.source.surroundings(row)
        if pixels is None:
            pixels = self.session.source.patch(row).pixels
        return Response(png_of(pixels), media_type="image/png", headers=FOREVER)


def parse_answers(content: Any) -> list[ReceivedAnswer]:
    """Parse and validate the answers of a request.

    Raises
    ------
    ConfigError
        If the content is invalid.
    """
    return [_parse_answer(item) for item in answer_items(content, MOST_ANSWERS)]


def _parse_answer(item: dict[str, Any]) -> ReceivedAnswer:
    patch = item.get("patch")
    if not isinstance(patch, str) or len(patch) > 500:
        raise ConfigError("patch: expected the id of a patch")
    return ReceivedAnswer(patch=patch, **answer_facts(item, ANSWERS))


def _pages_of(session: ReviewSession | CircleSession, reviewer: str) -> Pages | CirclePages:
    if isinstance(session, ReviewSession):
        return Pages(session, reviewer)
    from craters.review.circles import CirclePages  # needs the libraries of maps

    return CirclePages(session, reviewer)


def make_app(session: ReviewSession | CircleSession, *, reviewer: str = "me") -> Starlette:
    """Build the application; wrap it in `RequestGuard` before serving.

    Parameters
    ----------
    session : ReviewSession or CircleSession
    reviewer : str
        Default name on the start page.
    """
    pages = _pages_of(session, reviewer)
    templates = page_templates("craters.review")
    templates.filters["quoted"] = lambda text: quote(str(text), safe="")
    templates.globals["version"] = __version__

    def page(handler: Handler, template: str) -> Any:
        """Build a handler for HTML and JSON."""

        async def handle(request: Request) -> Response:
            body = await request.body()

            def work() -> Response:
                call = Call(request, body)
                content = handler(call)
                if not template or _wants_json(request):
                    return JSONResponse(content, headers=_NOT_KEPT)
                html = templates.get_template(template).render(pages.common(call) | content)
                return HTMLResponse(html, headers=_NOT_KEPT)

            return await run_in_threadpool(work)

        return handle

    def fail(request: Request, error: Exception) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        if isinstance(error, HTTPException):
            status, text = error.status_code, error.detail
        else:
            text = str(error)
        if request.method == "POST" or _wants_json(request):
            return JSONResponse({"error": text}, status, headers=_NOT_KEPT)
        html = templates.get_template("error.html").render(
            text=text, status=status, mark=pages.mark, root=root_of(request), who=""
        )
        return HTMLResponse(html, status, headers=_NOT_KEPT)

    routes = [
        Route("/enter", _enter),
        *(
            Route(path, page(handler, template), methods=[method])
            for path, handler, template, method in pages.pages()
        ),
        Route("/windows/{mark}/{image}/{shrink}/{top}/{left}.png", pages.window),
        Route("/static/{mark}/{name}", _static_handler()),
        *pages.pictures(),
    ]
    handlers: dict[Any, Any] = {CratersError: fail, HTTPException: fail}
    return Starlette(routes=routes, exception_handlers=handlers)


def _static_files() -> dict[str, tuple[bytes, str]]:
    """Read all static files; only these are served."""
    folder = resources.files("craters.review") / "static"
    return {
        item.name: (item.read_bytes(), _KINDS[item.name[item.name.rfind(".") :]])
        for item in folder.iterdir()
        if item.name[item.name.rfind(".") :] in _KINDS
    }


def _static_handler() -> Callable[[Request], Awaitable[Response]]:
    files = _static_files()

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise HTTPException(404)
        content, kind = files[name]
        return Response(content, media_type=kind, headers=FOREVER)

    return static


async def _enter(request: Request) -> Response:
    """Redirect from the start page to the queue of a reviewer."""
    name = check_reviewer(request.query_params.get("name", ""))
    return RedirectResponse(f"{root_of(request)}/as/{quote(name, safe='')}/queue", 303)


def _wants_json(request: Request) -> bool:
    if request.query_params.get("format") == "json":
        return True
    return "application/json" in request.headers.get("accept", "")


def key_lines(kind: str) -> list[tuple[str, str]]:
    """Return the keyboard shortcuts of the queue and their descriptions."""
    around = [("S", "Show the surroundings of the patch")] if kind == "scan" else []
    return [
        ("C", "Crater"), ("N", "Not a crater"), ("U", "Unsure"),
        ("Backspace", "Undo your last answer"), ("→", "Skip to the next patch"),
        ("Z", "Zoom in or out"), ("K", "More or normal contrast"), *around,
        ("P", "Show the probability, given label and other answers"), ("?", "This help"),
    ]  # fmt: skip


def curve(models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Lay out the learning curve: number of labels against macro F1 with its interval.

    Returns
    -------
    dict or None
        Points, ticks and sizes of the drawing; None without an evaluated model.
    """
    rows = [row for row in models if row["estimate"] and row["estimate"]["macro_f1"] is not None]
    if not rows:
        return None
    labels = [row["labels"] for row in rows]
    low = min(0.5, *(row["estimate"]["macro_f1_interval"][0] for row in rows), 0.5)
    low = max(0.0, int(low * 10) / 10)
    first, last = min(labels), max(labels)
    margin = max(1, round((last - first) * 0.08)) if last > first else max(1, round(last * 0.1))
    first, last = max(0, first - margin), last + margin

    def across(value: float) -> float:
        return round(_LEFT + (value - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT), 1)

    def up(value: float) -> float:
        return round(_TOP + (1 - value) / (1 - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    points = [
        {
            "x": across(row["labels"]),
            "y": up(row["estimate"]["macro_f1"]),
            "top": up(row["estimate"]["macro_f1_interval"][1]),
            "bottom": up(row["estimate"]["macro_f1_interval"][0]),
            "labels": row["labels"],
            "value": row["estimate"]["macro_f1"],
        }
        for row in rows
    ]
    steps = [round(0.1 * step, 1) for step in range(round(low * 10), 11)]
    return {
        "width": _WIDTH, "height": _HEIGHT, "points": points,
        "path": " ".join(f"{point['x']},{point['y']}" for point in points),
        "rows": [{"y": up(value), "text": f"{value:.1f}"} for value in steps],
        "columns": [
            {"x": across(value), "text": f"{value:,}"} for value in sorted(set(labels))
        ],
        "left": _LEFT, "right": _WIDTH - _RIGHT, "bottom": _HEIGHT - _BOTTOM,
    }  # fmt: skip
