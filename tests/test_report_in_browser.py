"""The report in headless Chromium: it renders, and a click lifts the veil of a flagged picture."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .test_evaluation import evaluate, folder

__all__ = ["folder"]  # the fixture
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PROBE = """
<script>window.addEventListener("load", () => {
  const veil = document.querySelector("button.veil"), picture = veil.querySelector("img");
  const blurred = getComputedStyle(picture).filter;
  veil.click();
  const seen = getComputedStyle(picture).filter;
  const images = [...document.images];
  document.body.dataset.found = JSON.stringify({
    blurred, seen, images: images.length, drawn: images.filter(i => i.naturalWidth > 0).length,
    wide: document.documentElement.scrollWidth > innerWidth, title: document.title,
  });
});</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_renders_and_a_click_lifts_the_veil(folder: Path, tmp_path: Path) -> None:
    done = evaluate(folder, tmp_path / "found", "--detector", "always", "--attacks", "none")
    assert done.exit_code == 0, done.output
    page = tmp_path / "probed.html"
    page.write_text((tmp_path / "found" / "report.html").read_text().replace("</body>", PROBE + "</body>"))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = json.loads(re.search(r"data-found='?\"?({.*?})[\"']", dom.replace("&quot;", '"'), re.DOTALL).group(1))
    assert "blur" in found["blurred"]
    assert found["seen"] == "none"
    assert found["drawn"] == found["images"] > 4
    assert not found["wide"], "the page does not scroll sideways"
    assert found["title"] == "sgrace: church"
