"""Request checks of the review page: host, token, origin and size, and security headers.

Requests must name the local host and port (against DNS rebinding) and carry the token: once in the
URL, then in a cookie that other sites cannot send. Browsers send cookies of a host to all its
ports, so the cookie holds for one path only, whose random name no other local server knows; all
pages are below it. Changes must come from a page of this server. The size of bodies is limited.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response

LARGEST = 1 << 20  # bytes of a body
LONGEST = 8192  # characters of an address
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_KNOWN = ("GET", "HEAD", "POST")


class RequestGuard:
    """ASGI middleware that rejects unauthorised and malformed requests.

    Parameters
    ----------
    app : ASGI application
    token : str
    port : int
    place : str
        Random name of the path of all pages, in letters, digits, - and _.
    """

    def __init__(self, app: Any, token: str, port: int, place: str) -> None:
        self.app, self.token, self.cookie = app, token, f"craters-{port}"
        self.root = f"/{place}"
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request to the app, or reject it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        safe_send = _with_headers(send)
        response = self._response(scope)
        if response is not None:
            await response(scope, receive, safe_send)
            return
        body = await _read_body(receive)
        if body is None:
            await _too_large()(scope, receive, safe_send)
            return
        await self.app({**scope, "root_path": self.root}, _replay(body), safe_send)

    def _response(self, scope: Any) -> Response | None:
        """Return the response to a request that must not reach the app, else None."""
        headers = Headers(scope=scope)
        refused = self._refuse(scope, headers)
        if refused is not None:
            return refused
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] in ("GET", "HEAD") and "token" in query:
            return self._set_cookie(scope, query)
        if not self._has_cookie(headers):
            return _unknown()
        return None

    def _refuse(self, scope: Any, headers: Headers) -> Response | None:  # noqa: PLR0911
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            text = "This server accepts only the address that it printed."
            return PlainTextResponse(text, 421)
        if scope["method"] not in _KNOWN:
            return PlainTextResponse("Expected GET, HEAD or POST.", 405)
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST:
            return PlainTextResponse("The address is too long.", 414)
        if not scope["path"].startswith(f"{self.root}/"):
            return _unknown()
        sites = headers.getlist("sec-fetch-site")
        if sites and sites[0] not in ("same-origin", "none"):
            # A link from elsewhere may only open the page by its token, as a typed address does.
            return PlainTextResponse("Requests from other pages are refused.", 403)
        if scope["method"] in _CHANGING:
            origins = headers.getlist("origin")
            if len(origins) != 1 or origins[0] not in self.origins:
                text = "Changes are accepted only from this server's own page."
                return PlainTextResponse(text, 403)
        sizes = headers.getlist("content-length")
        if sizes and (not sizes[0].isdigit() or len(sizes[0]) > 12 or int(sizes[0]) > LARGEST):
            return _too_large()
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "replace"), self.token.encode())

    def _has_cookie(self, headers: Headers) -> bool:
        for header in headers.getlist("cookie"):
            for part in header.split(";"):
                name, _, value = part.strip().partition("=")
                if name == self.cookie and self._is_token(value):
                    return True
        return False

    def _set_cookie(self, scope: Any, query: dict[str, list[str]]) -> Response:
        """Move the token from the URL to a cookie."""
        if not self._is_token(query.pop("token")[0]):
            text = "The token is not valid for this server."
            return PlainTextResponse(text, 403)
        rest = urlencode(query, doseq=True)
        path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else "/"
        place = "/" + path.partition("?")[0].lstrip("/") + (f"?{rest}" if rest else "")
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path={self.root}"
        return PlainTextResponse("", 303, {"location": place, "set-cookie": cookie})


def _unknown() -> Response:
    return PlainTextResponse("Open the address that `craters review` printed.", 403)


def _too_large() -> Response:
    return PlainTextResponse(f"A request may have at most {LARGEST} bytes.", 413)


def _with_headers(send: Any) -> Any:
    async def wrapped(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            headers.update(HEADERS)
            message = {**message, "headers": headers.raw}
        await send(message)

    return wrapped


async def _read_body(receive: Any) -> bytes | None:
    """Read a whole body; None if it is too large or incomplete."""
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
