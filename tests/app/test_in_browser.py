"""The app in headless Chromium: by clicks and by keyboard, at a desk and on a phone, light and dark."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from ..browser import DESK, NEEDS_BROWSER, PHONE, Browser, Page
from ..conftest import tiny_pipeline
from ..small_clip import save_small_clip
from .steps import built_in, choose, fetched, has, looks_right, pick, to, wait_for

pytestmark = [
    NEEDS_BROWSER,
    pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed"),
    pytest.mark.slow,
]

#: The command line as users start it, which tells every address that it connects to.
PROGRAM = """
import sys
def told(event, args):
    if event == "socket.connect":
        print("CONNECTS", args[1], flush=True)
sys.addaudithook(told)
from sgrace.cli import main
main()
"""


class Running(NamedTuple):
    address: str
    folders: Path  # of all pages
    log: Path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("server")
    log = home / "log"
    tiny_pipeline().save_pretrained(home / "tiny")
    save_small_clip(home / "small-clip")
    command = [sys.executable, "-c", PROGRAM, "app", "--port", "0", "--model", str(home / "tiny")]
    command += [
        "--detector",
        f"clip_zero_shot source={home / 'small-clip'}",
        "--detector",
        "image_classifier",
    ]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "TMPDIR": str(home)})
    end = time.monotonic() + 120
    while not (found := re.search(r"The app is at (http\S+);", log.read_text())):
        assert time.monotonic() < end, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    yield Running(found[1], next(home.glob("sgrace-app-*")), log)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, log.read_text()
    assert list(home.glob("sgrace-app-*")) == [], "the server leaves nothing"
    told = log.read_text()
    assert "Traceback" not in told, told
    connected = [line for line in told.splitlines() if line.startswith("CONNECTS")]
    assert [line for line in connected if "127.0.0.1" not in line and "/" not in line] == []


def test_the_whole_path_by_clicks(app: Running, browser: Browser) -> None:
    with browser.page(app.address, DESK) as page:
        built_in(page)
        wrong_names_are_told_and_never_run(page)
        choose(page, "weapon")
        has(page, "#note", "weapon: 25 words are erased")
        assert list(app.folders.glob("[0-9]*")), "the page has a folder"
        page.click("#words button")
        words = page.wait("document.querySelector('#protected textarea')?.value")
        assert "hammer" in words.split("\n")
        page.click("#erase")
        page.wait("document.querySelector('#status progress')?.value > 0")  # the bar moves
        page.wait("document.querySelectorAll('#gallery img').length === 12")
        has(page, "#status", "Ready")
        assert "erased" in page.text("#outcome").lower()
        assert "should go down" in page.text("#outcome")
        assert page.js("document.querySelectorAll('#outcome tbody tr').length") == 4

        blur = "getComputedStyle(document.querySelector('#gallery img')).filter"
        assert "blur" in page.js(blur)
        page.click("#gallery .veil")
        assert page.js(blur) == "none"
        page.key(" ")  # the keyboard hides it again
        assert "blur" in page.js(blur)

        before = page.js("document.querySelectorAll('#gallery img')[1].src")
        page.js("document.querySelector('#strength input[type=range]').focus()")
        page.key("ArrowLeft")
        has(page, "#gallery", "strength 0.95")
        assert page.js("document.querySelectorAll('#gallery img')[1].src") != before

        pick(page, "#attack-name", "random_tokens")
        page.click("#attack")
        has(page, "#attacks", "random_tokens")
        assert page.js("document.querySelectorAll('#gallery figure').length") == 18
        assert page.js("!!document.querySelector('#attacks .bar u')"), "with an interval"

        page.click("#pack")
        has(page, "#link", "without-weapon-erasure.zip")
        erasure = zipfile.ZipFile(io.BytesIO(fetched(page)))
        assert "without-weapon-erasure/recipe.json" in erasure.namelist()
        page.click("#suite input[value=smoke]")
        page.click("#report")
        has(page, "#link", "without-weapon-report.html")
        assert b"weapon" in fetched(page)
        has(page, "#scores", "Weakest evidence")
        assert page.js("document.querySelectorAll('#scores .bar u').length") == 8, "before and after"

        for width, dark in ((DESK, False), (DESK, True), (PHONE, True), (PHONE, False)):
            looks_right(page, width, dark=dark)
        assert page.faults() == []
        elsewhere = [
            each for each in page.requested() if not each.startswith((app.address, "data:", "blob:"))
        ]
        assert elsewhere == [], "the page works without the internet"
    left(app)


def left(app: Running) -> None:
    """Wait until the folders of pages that were closed are gone."""
    end = time.monotonic() + 60
    while list(app.folders.glob("[0-9]*")):
        assert time.monotonic() < end, "the page was left, and its folder stays"
        time.sleep(0.2)


def wrong_names_are_told_and_never_run(page: Page) -> None:
    """Each name is refused in one sentence, in which it stands as text."""
    choose(page, "waepon")
    has(page, "#status", "did you mean 'weapon'?")
    for name in ("<img src=x onerror=window.bad=1>", "${window.bad=1}{{window.bad=1}}", "../../etc/passwd"):
        choose(page, name)
        has(page, "#status", name[:20])
        assert page.js("document.querySelector('#status [role=alert]') !== null")
        assert page.js("document.querySelectorAll('#status img').length") == 0
    assert page.js("window.bad === undefined")
    assert "Traceback" not in page.js("document.body.innerText")


def test_the_whole_path_by_keyboard_alone(app: Running, browser: Browser, tmp_path: Path) -> None:
    """With a model that brings no judge, so that prompts and detector are chosen too."""
    with browser.page(app.address, DESK) as page:
        page.call("Page.setInterceptFileChooserDialog", enabled=True)
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        page.wait("!!document.querySelector('#erase')")
        model_and_concept_by_keyboard(page)
        to(page, "#erase")
        page.key("Enter")
        page.wait("document.querySelectorAll('#gallery img').length === 8")
        has(page, "#status", "Ready")
        compared_by_keyboard(page)
        attacked_by_keyboard(page, tmp_path / "prompts.csv")
        to(page, "#suite input[value=smoke]")
        page.key(" ")
        page.wait("document.querySelector('#suite input:checked').value === 'smoke'")
        to(page, "#report")
        page.key("Enter")
        has(page, "#scores", "Weakest evidence")
        to(page, "#pack")
        page.key("Enter")
        has(page, "#link", "without-church-erasure.zip")
        to(page, "#link a")
        page.key("Enter")
        wait_for(tmp_path / "without-church-erasure.zip")
        packed = zipfile.ZipFile(tmp_path / "without-church-erasure.zip")
        assert "without-church-erasure/recipe.json" in packed.namelist()
        for width, dark in ((DESK, False), (PHONE, True)):
            looks_right(page, width, dark=dark)
        assert page.faults() == []
    left(app)


def model_and_concept_by_keyboard(page: Page) -> None:
    to(page, "#model")
    judge = "document.querySelector('#judge input')?.value"
    for key, name, brings in (("ArrowDown", "emoji", "!=="), ("ArrowUp", "tiny", "===")):
        page.key(key)
        page.key("Enter")
        page.wait(f"document.querySelector('#model input').value === '{name}'")
        page.wait(f"{judge} {brings} 'clip_zero_shot'")
        to(page, "#concept")
        to(page, "#model", back=True)
    has(page, "#judge-note", "needs 'microsoft/resnet-50', which is not on this server")
    to(page, "#concept")
    page.type("church")
    page.key("Enter")
    page.wait("document.querySelector('#note').innerText || document.querySelector('#status [role=alert]')")
    to(page, "#words button")
    page.key("Enter")
    for box, words in (("related", "chapel"), ("protected", "dog\ntree\nboat\nhouse")):
        to(page, f"#{box} textarea")
        page.replace(words)
    to(page, "#more button")
    page.key(" ")
    to(page, "#more input[value=harmful]")
    page.key(" ")
    page.wait("document.querySelector('#more input:checked').value === 'harmful'")


def compared_by_keyboard(page: Page) -> None:
    to(page, "#gallery .veil")
    blur = "getComputedStyle(document.querySelector('#gallery img')).filter"
    assert "blur" in page.js(blur)
    page.key(" ")
    assert page.js(blur) == "none"
    to(page, "#strength input[type=range]", back=True)
    page.key("ArrowLeft")
    has(page, "#gallery", "strength 0.95")


def attacked_by_keyboard(page: Page, table: Path) -> None:
    table.write_text("prompt,evaluation_seed\na photo of a church,7\nan old church,8\n")
    to(page, "#attack-name")
    page.replace("random_tokens")
    page.key("Enter")
    to(page, "#read")
    page.key("Enter")
    page.pick(table)
    page.wait("document.querySelector('#table textarea').value.includes('an old church')")
    to(page, "#attack")
    page.key("Enter")
    has(page, "#attacks", "quick, 2 prompts, judged by clip_zero_shot")
    assert page.js("document.querySelectorAll('#attacks .bar u').length") == 2, "with intervals"
    assert "an old church" in page.text("#gallery")


def test_by_keyboard_alone_while_somebody_waits(app: Running, browser: Browser) -> None:
    with browser.page(app.address, PHONE) as page:
        built_in(page)
        page.js("document.activeElement.blur()")
        to(page, "#concept")
        page.type("church")
        page.key("Enter")
        has(page, "#note", "church:")
        to(page, "#effort")
        page.key("Tab")
        page.key(" ")
        page.wait("document.querySelector('#effort input:checked').value === 'standard'")
        to(page, "#erase")
        page.key("Enter")
        page.wait("document.querySelector('#status progress')?.value > 0")
        with browser.page(app.address, DESK) as second:
            built_in(second)
            choose(second, "cat")
            has(second, "#status", "1 task comes first")
            assert "church:" not in second.js("document.body.innerText"), "nothing of the first is seen"
            page.js("document.activeElement.blur()")
            to(page, "#cancel")
            page.key("Enter")
            has(page, "#status", "Cancelled")
            has(second, "#note", "cat:")
            assert second.text("#outcome") == "Nothing is erased yet."
        page.wait("!document.querySelector('#erase').disabled")
        assert page.text("#gallery") == ""
        looks_right(page, PHONE, dark=False)
