"""What the tests of the review page share: a client without a port, and a run to review."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np

from craters.labels import LabelStore
from craters.review import open_target
from craters.review.app import make_app
from craters.review.guard import RequestGuard
from craters.review.session import ReviewSession
from tests.conftest import simple_patches, write_job

TOKEN, PORT, PLACE = "secret-token", 8123, "secret-place"
HOST = f"127.0.0.1:{PORT}"


def make_run(folder: Path) -> Path:
    """Train the original network for a few epochs on simple patches."""
    from craters.pipeline import run_job
    from craters.training import RunConfig

    data = write_job(folder / "DATA", n=60, groups=True)
    np.save(data / "Xtrain1_extra.npy", simple_patches(300, 5, 0.3)[0].reshape(300, -1))
    out = folder / "RUN"
    run_job(
        RunConfig(
            data=data, out=out, method="supervised", network="original", initial_epochs=2,
            initial_lr=0.002, threads=1,
        )
    )  # fmt: skip
    return out


def truth_of(folder: Path) -> dict[str, str]:
    """Return the true answers about the extra patches of `make_run`."""
    labels = simple_patches(300, 5, 0.3)[1]
    return {f"Xtrain1_extra:{row}": ("not", "crater")[label] for row, label in enumerate(labels)}


def make_session(target: Path, store: Path, **options: Any) -> ReviewSession:
    """Open a target as the server does, and wait for the predictions."""
    session = ReviewSession(open_target(target), LabelStore(store, seed=7), threads=1, **options)
    session.open_model()
    session.background.wait()
    assert not session.background.failure
    return session


class Client:
    """Speaks ASGI to the application behind its guard; paths are below the secret place."""

    def __init__(self, session: ReviewSession) -> None:
        self.app = RequestGuard(make_app(session, reviewer="Ann"), TOKEN, PORT, PLACE)
        self.cookie = f"craters-{PORT}={TOKEN}"

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        cookie: bool = True,
        root: str = f"/{PLACE}",
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers and body."""
        given = {"host": HOST}
        if cookie:
            given["cookie"] = self.cookie
        if method == "POST":
            given |= {"origin": f"http://{HOST}", "content-type": "application/json"}
        given |= headers or {}
        raw, _, query = f"{root}{path}".partition("?")
        from urllib.parse import unquote

        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(raw), "raw_path": raw.encode("latin-1", "replace"),
            "query_string": query.encode("latin-1", "replace"), "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1", "replace"))
                        for name, value in given.items() if value is not None],
            "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        start = sent[0]
        whole = b"".join(message.get("body", b"") for message in sent[1:])
        return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, whole

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Get a page as JSON."""
        status, _, body = self.send("GET", path, headers={"accept": "application/json"} | headers)
        return status, json.loads(body)

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        """Post JSON."""
        status, _, body = self.send("POST", path, json.dumps(content).encode())
        return status, json.loads(body)
