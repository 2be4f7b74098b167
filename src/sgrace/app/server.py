"""The server: the guarded page and the files that it gives away, on one address."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from .._util.errors import InputError
from .guard import LOOPBACK, Guard, browser_of
from .sessions import Sessions
from .shelf import Shelf

#: Before gradio is imported: it tells nobody that it runs, and starts nothing beside this server.
SILENCE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
#: Waiting for open pages when the server stops, in seconds.
GRACE = 2


class Served(NamedTuple):
    """A server and its pages."""

    server: Any  # of uvicorn
    sessions: Sessions


def check_installed() -> None:
    """Check that the app can run.

    Raises:
        InputError: gradio is not installed.
    """
    if find_spec("gradio") is None:
        raise InputError("The app needs gradio: pip install 'sgrace[app]'.")


def listening(host: str, port: int) -> socket.socket:
    """A socket on an address; port 0 takes any that is free.

    Raises:
        InputError: the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"Cannot listen on {host} port {port} ({why}); name others with --host and --port."
        ) from error
    return found


def address_of(found: socket.socket) -> str:
    """Where a browser finds the page."""
    host, port = found.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    return host in LOOPBACK


def application(sessions: Sessions, *, password: str | None, loopback: bool) -> Guard:
    """The guarded page with its files.

    Args:
        sessions: of all pages.
        password: that everybody must give; None for none.
        loopback: whether only this machine is served.
    """
    from fastapi import FastAPI, Request  # noqa: PLC0415  (an extra)
    from fastapi.responses import FileResponse, Response  # noqa: PLC0415

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def file(secret: str, request: Request) -> Response:
        packed = sessions.packed(browser_of(request.headers.get("cookie", "")), secret)
        if packed is None or not packed.path.is_file():
            return Response(status_code=404)
        # never shown by the browser itself, only stored
        return FileResponse(packed.path, filename=packed.name, media_type="application/octet-stream")

    # the annotations are names of this function, which FastAPI does not see
    file.__annotations__ = {"secret": str, "request": Request}
    app.add_api_route("/files/{secret}", file, response_model=None)
    return Guard(_with_page(app, sessions), password=password, loopback=loopback)


def _with_page(app: Any, sessions: Sessions) -> Any:  # noqa: ANN401  (of FastAPI)
    os.environ.update(SILENCE, GRADIO_TEMP_DIR=str(sessions.folder / "gradio"))
    import gradio as gr  # noqa: PLC0415  (an extra)

    from . import views  # noqa: PLC0415
    from .layout import BY_KEYBOARD, page, theme  # noqa: PLC0415

    blocks = page(sessions)
    # pages wait here for the one thread that works, so that many wait at once
    blocks.queue(default_concurrency_limit=None, max_size=256, api_open=False)
    return gr.mount_gradio_app(
        app,
        blocks,
        "/",
        theme=theme(),
        css=views.style(),
        js=BY_KEYBOARD,
        footer_links=[],
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=1,
    )


@contextmanager
def served(
    shelf: Shelf, found: socket.socket, *, password: str | None = None, loopback: bool = True
) -> Iterator[Served]:
    """A server on a socket, not running yet; what its pages leave is removed at the end.

    Args:
        shelf: models that pages may choose.
        found: from :func:`listening`.
        password: that everybody must give; None for none.
        loopback: whether only this machine is served.
    """
    import uvicorn  # noqa: PLC0415  (an extra)

    sessions = Sessions(shelf)
    try:
        app = application(sessions, password=password, loopback=loopback)
        config = uvicorn.Config(
            app, log_level="error", timeout_graceful_shutdown=GRACE, server_header=False, access_log=False
        )
        yield Served(uvicorn.Server(config), sessions)
    finally:
        sessions.close()
        found.close()
