"""The guard alone, before an application that says yes to everything."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, NamedTuple

import pytest

from sgrace.app import password
from sgrace.app.guard import COOKIE, MAX_BODY, Guard
from sgrace.app.password import LONGEST, Password

SECRET = "s" * 43
OTHER = "t" * 43
BASIC = base64.b64encode(b"anybody:open sesame").decode()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


async def yes(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Says what it was asked."""
    body = (await receive())["body"] if scope["method"] == "POST" else b""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(
    guarded: Guard,
    path: str,
    body: bytes | None = None,
    *,
    method: str = "",
    query: str = "",
    cookie: str | None = SECRET,
    address: str = "10.0.0.1",
    scheme: str = "http",
    **headers: str,
) -> Answer:
    sent: list[dict[str, Any]] = []
    given = {"host": "127.0.0.1:7860", **headers}
    if cookie is not None:
        given["cookie"] = f"{COOKIE}={cookie}"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "scheme": scheme,
        "client": (address, 40_000),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(guarded(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, sent[1]["body"])


def join(page: str, **more: Any) -> bytes:
    return json.dumps({"session_hash": page, "fn_index": 0, "data": [], **more}).encode()


OPEN = ["/", "/config", "/theme.css", "/assets/index-Dphv.js", "/static/img/logo.svg", "/files/abc-DEF_1"]
CLOSED = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file/etc/passwd",
    "/file=/etc/passwd",
    "/gradio_api/proxy=http://example.org",
    "/gradio_api/upload_progress",
    "/gradio_api/info",
    "/gradio_api/openapi.json",
    "/gradio_api/stream/abcd/1/2/playlist.m3u8",
    "/gradio_api/call/erase/abcd",
    "/gradio_api/runs",
    "/gradio_api/deep_link",
    "/gradio_api/vibe-code",
    "/gradio_api/custom_component/a/client/b/c",
    "/monitoring",
    "/docs",
    "/openapi.json",
    "/assets/../../../etc/passwd",
    "/static/..%2f..%2fetc/passwd",
    "/files/../x",
    "/login",
    "//",
]


def test_the_page_s_own_doors_are_open() -> None:
    for path in OPEN:
        assert ask(Guard(yes), path).status == 200, path


@pytest.mark.parametrize("path", CLOSED)
def test_every_other_door_is_closed(path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
        assert ask(Guard(yes), path, join("page1") if method == "POST" else None, method=method).status == 404


def test_uploads_and_direct_calls_are_closed() -> None:
    for path in ("/gradio_api/upload", "/gradio_api/run/predict", "/gradio_api/api/predict", "/login"):
        assert ask(Guard(yes), path, join("page1")).status == 404


def test_what_is_too_long_is_refused_and_what_is_not_arrives_whole() -> None:
    body = join("page1", data=["x" * (MAX_BODY - 200)])
    assert ask(Guard(yes), "/gradio_api/queue/join", body).body == body
    assert ask(Guard(yes), "/gradio_api/queue/join", body + b" " * 200).status == 413


def test_a_browser_without_the_secret_may_only_load_the_page() -> None:
    guarded = Guard(yes)
    first = ask(guarded, "/", cookie=None)
    assert first.status == 200
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=Strict" in first.headers["set-cookie"]
    assert "set-cookie" not in ask(guarded, "/").headers
    for cookie in (None, "", "short", "bad value; x=1", "ü" * 30):
        given = None if cookie is None else cookie.encode("ascii", "ignore").decode()
        assert ask(guarded, "/gradio_api/queue/join", join("page1"), cookie=given).status == 403
        assert ask(guarded, "/files/abcdef", cookie=given).status == 403


def test_a_page_belongs_to_the_browser_that_came_first() -> None:
    guarded = Guard(yes)
    assert ask(guarded, "/gradio_api/queue/join", join("page1")).status == 200
    assert ask(guarded, "/gradio_api/queue/join", join("page1"), cookie=OTHER).status == 403
    stream = "/gradio_api/queue/data"
    assert ask(guarded, stream, query="session_hash=page1").status == 200
    assert ask(guarded, stream, query="session_hash=page1", cookie=OTHER).status == 403
    assert ask(guarded, "/gradio_api/heartbeat/page1", cookie=OTHER).status == 403
    for query in ("", "session_hash=", "session_hash=page2&session_hash=page1", "session_hash=../x"):
        assert ask(guarded, stream, query=query, cookie=OTHER).status == 403, query
    twice = b'{"session_hash": "page2", "session_hash": "page1"}'
    for body in (twice, b"{", b"[]", b"[" * 100_000, b'{"session_hash": 5}', join("../../x"), join("")):
        assert ask(guarded, "/gradio_api/queue/join", body, cookie=OTHER).status == 403, body[:40]


def test_foreign_pages_and_foreign_names_of_this_machine_are_refused() -> None:
    guarded = Guard(yes)
    for host in ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""):
        assert ask(guarded, "/", host=host).status == 403, host
    for host in ("localhost:7860", "127.0.0.1", "[::1]:7860"):
        assert ask(guarded, "/", host=host).status == 200, host
    assert ask(guarded, "/gradio_api/queue/join", join("page1"), origin="http://evil.example").status == 403
    assert ask(guarded, "/gradio_api/queue/join", join("page1"), origin="null").status == 403
    assert ask(guarded, "/gradio_api/queue/join", join("page1"), origin="http://127.0.0.1:7860").status == 200
    assert ask(Guard(yes, loopback=False), "/", host="lab.example").status == 200
    assert ask(Guard(yes, loopback=False), "/", host="lab.example", origin="http://x.example").status == 403


def test_nothing_is_given_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password, "PAUSE", 0.0)
    guarded = Guard(yes, password="open sesame")  # noqa: S106
    for path in OPEN:
        refused = ask(guarded, path)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert refused.body == b""
        assert "set-cookie" not in refused.headers
    wrong = [base64.b64encode(b"anybody:" + each).decode() for each in (b"", b"open", b"open sesame ")]
    for given in (*wrong, "%%%", ""):
        assert ask(guarded, "/", authorization=f"Basic {given}").status == 401, given
    assert ask(guarded, "/", authorization=f"Bearer {BASIC}").status == 401
    assert ask(guarded, "/", authorization=f"Basic {BASIC}").status == 200


def test_who_guesses_waits_longer_each_time_and_nobody_else_does() -> None:
    now = [0.0]
    checked = Password("open sesame", clock=lambda: now[0])
    wrong = {"authorization": "Basic " + base64.b64encode(b"x:guess").decode()}
    right = {"authorization": f"Basic {BASIC}"}
    assert checked.refused({}, "a", "") == 401, "asking is no guess"
    assert checked.refused(right, "a", SECRET) == 0
    for pause in (1, 2, 4, 8, 16, 32, LONGEST, LONGEST):
        assert checked.refused(wrong, "a", "") == 401
        now[0] += pause - 0.1
        for given in (wrong, right):
            assert checked.refused(given, "a", "") == 429, (
                "no guess is looked at meanwhile, not the right one"
            )
        assert checked.refused(right, "b", "") == 0, "another address is not kept waiting"
        now[0] += 0.2
    assert checked.refused(wrong, "a", OTHER) == 401
    assert checked.refused(right, "a", OTHER) == 429
    assert checked.refused(right, "a", SECRET) == 0, "nor is a browser that gave it before"
    assert checked.refused(wrong, "a", "") == 401, "after the right one it begins anew"
    now[0] += 1.1
    assert checked.refused(right, "a", "") == 0


def test_a_guess_too_many_is_told_at_the_door() -> None:
    guarded = Guard(yes, password="open sesame")  # noqa: S106
    assert ask(guarded, "/", authorization="Basic eDp5").status == 401
    refused = ask(guarded, "/", authorization=f"Basic {BASIC}")
    assert refused.status == 429
    assert b"load the page again" in refused.body
    assert ask(guarded, "/", address="10.0.0.2", authorization=f"Basic {BASIC}").status == 200


def test_the_cookie_is_kept_from_scripts_other_pages_and_plain_connections() -> None:
    for scheme, flags in (("http", ""), ("https", "; Secure")):
        given = ask(Guard(yes), "/", cookie=None, scheme=scheme).headers["set-cookie"]
        assert given.endswith(f"; Path=/; HttpOnly; SameSite=Strict{flags}")


def test_the_page_may_load_nothing_from_elsewhere() -> None:
    policy = ask(Guard(yes), "/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
