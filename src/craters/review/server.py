"""Run the web server of the review page, on this machine only."""

from __future__ import annotations

import contextlib
import functools
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from craters.core import NullProgress, Progress, StrPath
from craters.errors import ConfigError
from craters.labels import LabelStore
from craters.review.app import make_app
from craters.review.guard import RequestGuard
from craters.review.session import ReviewSession, read_audit
from craters.review.target import is_circle_scan, open_target

if TYPE_CHECKING:
    from craters.review.circles import CircleSession

HOST = "127.0.0.1"
_BACKLOG = 64
_AT_ONCE = 100  # connections and requests


def default_store(target: Path) -> Path:
    """Return the default label store of a target, next to it.

    Examples
    --------
    >>> default_store(Path("work/RUN")).as_posix()
    'work/RUN.labels.sqlite'
    """
    named = target.resolve() if target.name in ("", ".", "..") else target
    return named.with_name(f"{named.stem if named.suffix == '.npy' else named.name}.labels.sqlite")


def listen(port: int) -> socket.socket:
    """Bind a local port; 0 binds any free one.

    Raises
    ------
    ConfigError
        If the port is in use.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"--port {port}: is in use ({error.strerror})", "Choose another, or 0 for any."
        ) from error
    return listener


def serve(
    target: StrPath,
    *,
    store: StrPath | None = None,
    model: StrPath | None = None,
    data: StrPath | None = None,
    audit: StrPath | None = None,
    sun_azimuth: float | None = None,
    reviewer: str = "me",
    port: int = 0,
    threads: int = 0,
    progress: Progress | None = None,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the review page until the process is interrupted.

    Parameters
    ----------
    target : path-like
        A patch array, a folder of arrays, a run folder or a scan folder, of windows or of circles.
    store : path-like, optional
        Label store; by default next to the target.
    model, data, audit : path-like, optional
        Replace those of the target. `pretrained` is the model that ships with craters, which is
        also used for a target without a model.
    sun_azimuth : float, optional
        Degrees clockwise from image up (map north) where the light comes from, for a model that
        turns patches to it, such as `pretrained`; estimated by default.
    reviewer : str
        Default name on the start page.
    port : int
        0: any free one.
    threads : int
        Threads for predictions; 0: all usable CPUs.
    progress : Progress, optional
        Receives notes about the patches and the model.
    on_ready : callable, optional
        Called with the address, including its token.
    stop : threading.Event, optional
        Stops the server when set; for tests.
    """
    target = Path(target)
    store = None if store is None else Path(store)
    data = None if data is None else Path(data)
    audit = None if audit is None else Path(audit)
    make_session: Callable[[LabelStore], ReviewSession | CircleSession]
    if is_circle_scan(target):
        _refuse_of_patches(target, model=model, data=data, audit=audit, sun_azimuth=sun_azimuth)
        from craters.review.circles import CircleSession, open_circles

        make_session = functools.partial(CircleSession, open_circles(target))
    else:
        source = open_target(target, model=model, data=data)
        probability = None if audit is None else read_audit(audit, source)
        make_session = functools.partial(
            ReviewSession, source, threads=threads, audit=probability, sun_azimuth=sun_azimuth
        )
    with (
        LabelStore(store or default_store(target)) as labels,
        listen(port) as listener,
        contextlib.closing(make_session(labels)) as session,
    ):
        if isinstance(session, ReviewSession):
            session.open_model()
        for note in session.notes:
            (progress or NullProgress()).say(f"Note: {note}.")
        number = listener.getsockname()[1]
        token, place = secrets.token_urlsafe(24), secrets.token_urlsafe(12)
        app = RequestGuard(make_app(session, reviewer=reviewer), token, number, place)
        config = uvicorn.Config(
            app, log_level="error", access_log=False, server_header=False, date_header=False,
            proxy_headers=False, ws="none", lifespan="off", limit_concurrency=_AT_ONCE,
            timeout_keep_alive=30, timeout_graceful_shutdown=1, backlog=_BACKLOG,
            h11_max_incomplete_event_size=1 << 15,
        )  # fmt: skip
        server = uvicorn.Server(config)
        if stop is not None:
            threading.Thread(target=_stop_by, args=(stop, server), daemon=True).start()
        listener.listen(_BACKLOG)
        if on_ready is not None:
            on_ready(f"http://{HOST}:{number}/{place}/?token={token}")
        server.run(sockets=[listener])


def _refuse_of_patches(target: Path, **options: Any) -> None:
    """Raise ConfigError for options that have no meaning for circles."""
    for name, value in options.items():
        if value is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')}: has no meaning for circles, which {target} holds",
                "Leave it out.",
            )


def _stop_by(stop: threading.Event, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True
