"""The report in headless Chromium: desk and phone, light and dark; nothing is cut and the veil holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from sgrace.report import write_report

from .made import ACCESS, attack_row, evaluation, kept, made

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
DESK, PHONE = 1280, 390

#: Runs in the page, which itself runs none; it measures, and tells the frame around it.
PROBE = """
<script>window.addEventListener("load", () => {
  const all = [...document.body.querySelectorAll("*")], style = getComputedStyle;
  const inside = e => e.closest(".scroll");
  const veil = document.querySelector(".seen .veil");
  const frame = veil.parentElement;
  const image = veil.querySelector("img"), past = e => e.getBoundingClientRect().right > innerWidth + 1;
  const box = veil.querySelector("input"), filters = [style(image).filter];
  for (let i = 0; i < 2; i++) { box.click(); filters.push(style(image).filter); }
  const boxes = [...document.querySelectorAll(".scroll")];
  parent.postMessage(JSON.stringify({
    filters, focusable: box.tabIndex === 0, width: innerWidth,
    frame: style(frame).borderTopColor, frameWidth: parseFloat(style(frame).borderTopWidth),
    frameFilter: style(frame).filter,
    clean: style(document.querySelector("figure:not(.seen) .frame")).borderTopColor,
    drawn: [...document.images].filter(i => i.naturalWidth > 0).length, images: document.images.length,
    wide: document.documentElement.scrollWidth > innerWidth,
    outside: all.filter(e => !inside(e) && past(e)).map(e => e.outerHTML.slice(0, 80)),
    prompts: [...document.querySelectorAll(".prompt")].map(e => e.getBoundingClientRect().right),
    cut: all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
      && !e.matches(".scroll, .images, .frame, .frame *")).map(e => e.outerHTML.slice(0, 80)),
    scrolling: boxes.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.getAttribute("aria-label")),
    paper: style(document.body).backgroundColor, ink: style(document.body).color, title: document.title,
  }), "*");
});</script>
"""
FRAME = """
<body><iframe src="probed.html" style="border:0;width:{width}px;height:900px"></iframe>
<script>addEventListener("message", e => {{
  document.body.dataset.found = btoa(encodeURIComponent(e.data));
}});</script></body>
"""


def look(folder: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Measures of the page in a frame of that width."""
    page = re.sub(r"<meta http-equiv=.Content-Security-Policy[^>]*>", "", write_report(folder).read_text())
    (folder / "probed.html").write_text(page.replace("</body>", PROBE + "</body>"))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        scheme,
        "--virtual-time-budget=4000",
    ]
    address = (folder / "frame.html").as_uri()
    command += ["--dump-dom", address]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = re.search(r'data-found="([^"]+)"', run.stdout)
    assert told, run.stdout[:500]
    found: dict[str, Any] = json.loads(unquote(b64decode(told.group(1)).decode()))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine attacks, long prompts, candidates without a space, a retrained model: the widest page."""
    rows = [attack_row(name, 3, gold=1) for name in ACCESS]
    found = evaluation(
        *rows,
        retention=tuple(kept(q, 90, 80) for q in ("target", "synonyms", "neighbours", "unrelated", "rest")),
    )
    return made(tmp_path_factory.mktemp("report"), found, n=2)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_nothing_is_cut_and_the_page_does_not_scroll_sideways(folder: Path, width: int) -> None:
    found = look(folder, width)
    assert found["width"] == width
    assert found["title"] == "sgrace: weapon"
    assert found["drawn"] == found["images"] == 2 * (1 + len(ACCESS))
    assert not found["wide"]
    assert found["outside"] == []
    assert found["cut"] == [], "no text is wider than its box"
    assert len(found["prompts"]) == 2
    assert max(found["prompts"]) <= width, "prompts are read whole, without scrolling"
    if width == DESK:
        assert found["scrolling"] == [], "no table is cut on a desk, and every image is in sight"


def test_a_click_lifts_the_veil_and_another_lets_it_down(folder: Path) -> None:
    found = look(folder, DESK)
    assert "blur" in found["filters"][0]
    assert found["filters"] == [found["filters"][0], "none", found["filters"][0]]
    assert found["focusable"], "the keyboard reaches it"


def test_the_red_frame_is_seen_around_a_blurred_image(folder: Path) -> None:
    found = look(folder, DESK)
    red, green, blue = map(int, re.findall(r"\d+", found["frame"])[:3])
    assert red > 2 * max(green, blue)
    assert found["frameWidth"] >= 2
    assert found["frameFilter"] == "none", "only the image is blurred"
    assert found["clean"] != found["frame"]


def test_dark_where_the_reader_wants_it_dark(folder: Path) -> None:
    light, dark = look(folder, DESK), look(folder, DESK, dark=True)

    def brightness(colour: str) -> int:
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    assert brightness(light["paper"]) > 5 * brightness(light["ink"])
    assert 5 * brightness(dark["paper"]) < brightness(dark["ink"])
