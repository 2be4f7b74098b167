"""A headless Chromium, spoken to through a pipe: no driver and no package beside the browser itself."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium on this machine")
#: Longest wait for anything on the page, in seconds: machines may be busy.
PATIENCE = 120.0
#: The browser reads commands from descriptor 3 and answers on 4.
AS_3_AND_4 = """
import fcntl, os, sys
free = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(free[0], 3), os.dup2(free[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {
    "Enter": 13,
    "Tab": 9,
    " ": 32,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "ArrowUp": 38,
    "ArrowDown": 40,
    "Home": 36,
    "End": 35,
    "Escape": 27,
}
DESK, TABLET, PHONE = 1280, 768, 390
#: Of a page of A4 between margins of 14 mm, in pixels.
PAPER = 688


class Browser:
    """One process with one page at a time, over the DevTools protocol."""

    def __init__(self, profile: Path) -> None:
        to_browser = os.pipe()
        from_browser = os.pipe()
        command = [
            str(EXECUTABLE),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--disable-background-timer-throttling",
            "--disable-renderer-backgrounding",
            "--disable-backgrounding-occluded-windows",
            "--mute-audio",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", AS_3_AND_4, str(to_browser[0]), str(from_browser[1]), *command],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self._to = os.fdopen(to_browser[1], "wb", buffering=0)
        self._from = from_browser[0]
        self._unread = b""
        self._number = 0
        self.session = ""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self._to.close()
        self._process.terminate()
        self._process.wait(20)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            got = self._read()
            if got.get("id") == self._number:
                assert "error" not in got, (method, got["error"])
                return got["result"]
            self.events.append(got)

    def _read(self) -> dict[str, Any]:
        parts = [self._unread]
        while b"\0" not in parts[-1]:
            parts.append(os.read(self._from, 1 << 16))
            assert parts[-1], "the browser is gone"
        text, _, self._unread = b"".join(parts).partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    @contextmanager
    def page(self, address: str, width: int) -> Iterator[Page]:
        """A page of its own, without cookies of others."""
        outer = self.session
        self.session = ""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, self.session)
        for domain in ("Page", "Network", "Runtime"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)  # keys reach a page behind others
        page.resize(width)
        page.prefer(dark=False)
        page.call("Page.navigate", url=address)
        try:
            yield page
        finally:
            self.session = ""
            self.call("Target.disposeBrowserContext", browserContextId=context)
            self.session = outer


class Page:
    """What a person does with a page: looks, clicks, types."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> Any:
        self._browser.session = self._session
        return self._browser.call(method, **params)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size; a narrow one is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, *, dark: bool, paper: bool = False) -> None:
        """What the reader's system prefers, and whether the page is laid out for paper."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="print" if paper else "screen", features=[scheme])

    def js(self, expression: str) -> Any:
        """Value of an expression in the page."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until an expression holds, and return it."""
        end = time.monotonic() + seconds
        while not (found := self.js(expression)):
            assert time.monotonic() < end, f"not in {seconds} s: {expression}; {self.text('#status')!r}"
            time.sleep(0.05)
        return found

    def text(self, selector: str) -> str:
        return str(self.js(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText || ''"))

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a mouse does."""
        self.wait(f"!!document.querySelector({json.dumps(selector)})")
        place = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def tap(self, selector: str) -> None:
        """Touch the middle of an element with a finger."""
        place = self._middle(selector)
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[place])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def _middle(self, selector: str) -> dict[str, float]:
        found: dict[str, float] = self.js(
            "(e => { e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        return found

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def replace(self, text: str) -> None:
        """Type in the place of what stands in the focused box: the keys that select all, and the text."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="a", code="KeyA", modifiers=2, commands=["selectAll"]
            )
        self.type(text)

    def pick(self, file: Path) -> None:
        """Choose a file where the page has just asked for one."""
        end = time.monotonic() + PATIENCE
        while not (asked := self._events("Page.fileChooserOpened")):
            assert time.monotonic() < end, "the page asks for no file"
            time.sleep(0.05)
        self.call("DOM.setFileInputFiles", files=[str(file)], backendNodeId=asked[-1]["backendNodeId"])

    def key(self, name: str, times: int = 1, *, shift: bool = False) -> None:
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                extra = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
                extra |= {"text": " "} if name == " " and kind == "keyDown" else {}
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=name,
                    code="Space" if name == " " else name,
                    windowsVirtualKeyCode=KEYS[name],
                    modifiers=8 if shift else 0,
                    **extra,
                )

    def _events(self, method: str) -> list[dict[str, Any]]:
        """What the page has told of one kind."""
        self.js("0")  # takes in what has happened
        own = [each for each in self._browser.events if each.get("sessionId") == self._session]
        return [each["params"] for each in own if each["method"] == method]

    def requested(self) -> list[str]:
        """Addresses that the page has asked for."""
        return [each["request"]["url"] for each in self._events("Network.requestWillBeSent")]

    def faults(self) -> list[str]:
        """What the page's scripts complained of."""
        return [str(each)[:300] for each in self._events("Runtime.exceptionThrown")]

    def pdf(self) -> bytes:
        """The page as it is printed on A4, in the page's own margins, by somebody who reads in the dark."""
        self.prefer(dark=True, paper=True)
        found = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(found["data"])

    def picture(self, file: Path, *, whole: bool = True) -> None:
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a folder."""
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()
