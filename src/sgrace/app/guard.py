"""What stands before the page's server: who may come in, which doors there are, and what the page may load.

Gradio serves files, uploads, a proxy and a documented interface of every function. This app needs none of
them, so every address is closed that is not in the list.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .password import Password

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]
App = Callable[[Scope, Receive, Send], Any]

#: Addresses that the page needs, by method.
DOORS = {
    "GET": re.compile(
        r"/|/(config|theme\.css|favicon\.ico|manifest\.json)|/(assets|static|svelte)/[\w./@-]+"
        r"|/gradio_api/(queue/data|startup-events|heartbeat/\w+)|/files/[\w-]+"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|reset|cancel)"),
}
#: Of a request, in bytes: text boxes hold less.
MAX_BODY = 256 * 1024
#: What a browser's page is known by.
PAGE = re.compile(r"[a-z0-9]{4,40}")
MAX_PAGES = 10_000
COOKIE = "sgrace"
HEADERS = {
    # the page evaluates its own templates, and has its scripts and styles inside
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
TOO_OFTEN = b"Wrong passwords came from this address; wait up to a minute, and load the page again."
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Guard:
    """Lets the page's own requests through.

    Args:
        app: what is guarded.
        password: that everybody must give, with any user name; None for no password.
        loopback: whether only this machine is served: then only its own names are answered.
    """

    def __init__(self, app: App, *, password: str | None = None, loopback: bool = True) -> None:
        self._app = app
        self._password = None if password is None else Password(password)
        self._loopback = loopback
        self._browsers: dict[str, str] = {}  # page -> browser: no other may ask in its name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        browser = browser_of(headers.get("cookie", ""))
        status = self._refused(scope, headers)
        if not status and self._password is not None:
            status = self._password.refused(headers, (scope.get("client") or [""])[0], browser)
        if status:
            await _answer(send, status)
            return
        if not browser and scope["path"].startswith(("/gradio_api/queue", "/files/")):
            await _answer(send, 403)
            return
        if scope["method"] == "POST":
            body = await _body(receive)
            if body is None or not self._owns(browser, _page_of(body)):
                await _answer(send, 413 if body is None else 403)
                return
            receive = _again(body, receive)
        elif (page := _page_in(scope)) and not self._owns(browser, page):
            await _answer(send, 403)
            return
        is_new = not browser and scope["path"] == "/"
        # known where a proxy on this machine speaks TLS for us
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{COOKIE}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; SameSite=Strict{secure}"
        await self._app(scope, receive, _with_headers(send, cookie if is_new else ""))

    def _refused(self, scope: Scope, headers: Mapping[str, str]) -> int:
        """Status with which a request is refused; 0 if it is not."""
        host = headers.get("host", "")
        # a foreign page may point its own name at this machine, or send requests in the user's name
        if self._loopback and urlsplit(f"//{host}").hostname not in LOOPBACK:
            return 403
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        door = DOORS.get(method)
        if door is None or not door.fullmatch(scope["path"]) or ".." in scope["path"]:
            return 404
        return 0

    def _owns(self, browser: str, page: str) -> bool:
        """Whether a page is this browser's; the first who asks in a page's name has it."""
        full = len(self._browsers) >= MAX_PAGES and page not in self._browsers
        if full or not PAGE.fullmatch(page):
            return False
        return self._browsers.setdefault(page, browser) == browser

    def forget(self, page: str) -> None:
        """A page was left."""
        self._browsers.pop(page, None)


def browser_of(cookie: str) -> str:
    """The browser's secret in its cookies; empty where there is none."""
    try:
        found = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None and re.fullmatch(r"[\w-]{20,64}", found.value) else ""


def _page_in(scope: Scope) -> str:
    """The page that a request names in its address; empty where it names none, a dash where it is unclear."""
    path = str(scope["path"])
    if path.startswith("/gradio_api/heartbeat/"):
        return path.rpartition("/")[2]
    if path != "/gradio_api/queue/data":
        return ""
    named: list[str] = parse_qs(str(scope["query_string"], "latin-1")).get("session_hash", [])
    return named[0] if len(named) == 1 else "-"


def _page_of(body: bytes) -> str:
    """The page that the body of a request names; empty where it names none, or several."""
    try:
        found = json.loads(body, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return ""
    page = found.get("session_hash") if isinstance(found, dict) else None
    return page if isinstance(page, str) else ""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; one that names a thing twice is read differently by different readers."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None where it is too long."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > MAX_BODY:
            return None
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A source of messages that gives a body which was read already."""
    given = False

    async def repeated() -> Any:  # noqa: ANN401  (a message of ASGI)
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return repeated


def _with_headers(send: Send, cookie: str) -> Send:
    """Send the answer with our own headers, and a secret to a browser that is new."""

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            if cookie:
                ours.append((b"set-cookie", cookie.encode()))
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        await send(message)

    return sent


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="sgrace", charset="UTF-8"'))
    body = TOO_OFTEN if status == 429 else b""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
