"""The door of the review page: who may come in, with what, and what browsers may do with it.

Only this machine, under the name that the server was started with (so that no other site's name
can be pointed at it), only with the token (in the URL once, then in a cookie that no other site's
page can send), and for changes only from a page of this server. Bodies are small.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import parse_qs, urlencode

LARGEST = 1 << 20  # bytes of a body
LONGEST = 8192  # characters of an address
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_KNOWN = ("GET", "HEAD", "POST")


class Guard:
    """ASGI middleware that refuses what should not come in.

    Parameters
    ----------
    app : ASGI application
    token : str
    port : int
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token, f"craters-{port}"
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        safe_send = _with_headers(send)
        refused = self._refuse(scope)
        if refused is not None:
            await _reply(safe_send, *refused)
            return
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] in ("GET", "HEAD") and "token" in query:
            await self._let_in(scope, query, safe_send)
            return
        if not self._has_cookie(scope):
            await _reply(safe_send, 403, "Open the address that `craters review` printed.")
            return
        body = await _read_body(receive)
        if body is None:
            await _reply(safe_send, 413, f"A request may have {LARGEST} bytes.")
            return
        await self.app(scope, _replay(body), safe_send)

    def _refuse(self, scope: Any) -> tuple[int, str] | None:  # noqa: PLR0911
        hosts = _all_of(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return 421, "This server answers only under the address that it printed."
        if scope["method"] not in _KNOWN:
            return 405, "Expected GET, HEAD or POST."
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST:
            return 414, "The address is too long."
        sites = _all_of(scope, b"sec-fetch-site")
        if sites and sites[0] not in ("same-origin", "none"):
            # A link from elsewhere may only open the page by its token, as an address typed would.
            return 403, "Requests from other pages are refused."
        if scope["method"] in _CHANGING:
            origins = _all_of(scope, b"origin")
            if len(origins) != 1 or origins[0] not in self.origins:
                return 403, "Changes are accepted only from this server's own page."
        sizes = _all_of(scope, b"content-length")
        if sizes and (not sizes[0].isdigit() or len(sizes[0]) > 12 or int(sizes[0]) > LARGEST):
            return 413, f"A request may have {LARGEST} bytes."
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())

    def _has_cookie(self, scope: Any) -> bool:
        for header in _all_of(scope, b"cookie"):
            for part in header.split(";"):
                name, _, value = part.strip().partition("=")
                if name == self.cookie and self._is_token(value):
                    return True
        return False

    async def _let_in(self, scope: Any, query: dict[str, list[str]], send: Any) -> None:
        """Turn the token in the address into a cookie, and take it out of the address."""
        if not self._is_token(query.pop("token")[0]):
            await _reply(send, 403, "The token is of another start of `craters review`.")
            return
        rest = urlencode(query, doseq=True)
        path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else "/"
        place = "/" + path.partition("?")[0].lstrip("/") + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", place.encode("latin-1")), (b"set-cookie", cookie.encode())]
        await _reply(send, 303, "", headers)


def _all_of(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _with_headers(send: Any) -> Any:
    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return wrapped


async def _reply(
    send: Any, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = text.encode()
    plain = [(b"content-type", b"text/plain; charset=utf-8"),
             (b"content-length", str(len(body)).encode())]  # fmt: skip
    await send(
        {"type": "http.response.start", "status": status, "headers": [*plain, *(headers or [])]}
    )
    await send({"type": "http.response.body", "body": body})


async def _read_body(receive: Any) -> bytes | None:
    """Read a whole body; None where it is too large or was not finished."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST:
            return None
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes) -> Any:
    is_read = False

    async def receive() -> Any:
        nonlocal is_read
        if is_read:
            return {"type": "http.disconnect"}
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
