"""The site of the documents: built as ``make site`` builds it, with warnings as errors."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote

import pytest

import sgrace
from sgrace._util import registry

from .test_documents import ROOT

pytestmark = pytest.mark.slow

TAG = re.compile(r"<(?P<tag>a|img|script|link)\b[^>]*?\b(?:href|src)=\"(?P<to>[^\"]+)\"")
IDENTITY = re.compile(r'\bid="([^"]+)"')
METHODS = ROOT / "docs" / "methods"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Runs in a page and tells the frame around it how far the page scrolls sideways, and what of it is cut.
PROBE = """
<script>window.addEventListener("load", () => {
  const scrolls = e => e && /auto|scroll/.test(getComputedStyle(e).overflowX);
  const free = e => !scrolls(e.closest("div.math, .table-wrapper, pre"));
  const article = [...document.querySelectorAll("article *")];
  const past = article.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && free(e));
  const root = document.documentElement;
  const over = root.scrollWidth - root.clientWidth;
  parent.postMessage({over, past: past.map(e => e.outerHTML.slice(0, 80))}, "*");
});</script>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs"]
    command += ["-d", str(folder / "trees"), ".", str(folder / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


def test_every_document_is_a_page_and_every_link_leads_somewhere(site: Path) -> None:
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert [
        path for path in documents if site / path.relative_to(ROOT).with_suffix(".html") not in pages
    ] == []
    names = {path: set(IDENTITY.findall(text)) for path, text in pages.items()}
    lost = []
    for path, text in pages.items():
        for match in TAG.finditer(text):
            to, _, place = unquote(match["to"]).partition("#")
            if match["tag"] == "a" and re.match(r"https?:|mailto:", to):
                continue
            target = (path.parent / to.partition("?")[0]).resolve() if to else path
            # nothing that a page shows comes from elsewhere
            if not target.exists() or (place and target in names and place not in names[target]):
                lost.append(f"{path.relative_to(site)}: {match['to']}")
    assert lost == []


def test_every_method_has_a_page_with_its_formula(site: Path) -> None:
    names = set(registry.names("erasers"))
    assert {path.stem for path in METHODS.glob("*.md")} - {"README"} == names
    for name in sorted(names):
        page = (site / "docs" / "methods" / f"{name}.html").read_text("utf-8")
        assert '<div class="math"><math' in page, name
        assert "$$" not in page, name
        assert f"--method {name}" in re.sub(r"<[^>]+>", "", page), name


def test_the_reference_knows_every_public_name(site: Path) -> None:
    found = {
        name for path in (site / "docs" / "api").glob("*.html") for name in IDENTITY.findall(path.read_text())
    }
    assert [name for name in sgrace.__all__ if name != "__version__" and f"sgrace.{name}" not in found] == []


def test_the_pictures_show_what_their_page_says() -> None:
    drawing = runpy.run_path(str(ROOT / "docs" / "concept_pictures.py"))
    points = drawing["points"](sgrace.load_model("emoji"), drawing["groups"]())
    plane = drawing["Plane"](points)
    shares = drawing["nearest_to_own"]({name: plane(own) for name, own in points.items()})
    told = [f"{share:.0%}" for share in shares]
    page = (ROOT / "docs" / "how-sgrace-works.md").read_text("utf-8")
    assert f"{', '.join(told)} are nearest to the mean of their own group" in page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_nothing_is_cut_on_a_phone(site: Path, tmp_path: Path) -> None:
    """Wide tables and formulas scroll in frames of their own, and the page never does."""
    names = ("index", "methods/mace", "api/verbs", "erasers")
    frames = []
    for name in names:
        page = site / "docs" / f"{name}.html"
        probed = page.with_name(f"{page.stem}-probed.html")
        probed.write_text(page.read_text("utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
        frames.append(f'<iframe src="{probed.as_uri()}" style="border:0;width:390px;height:800px"></iframe>')
    listen = "const told = []; addEventListener('message', e => { told.push(e.data);"
    listen += " document.body.dataset.told = btoa(encodeURIComponent(JSON.stringify(told))); });"
    frame = tmp_path / "frame.html"
    frame.write_text(f"<body><script>{listen}</script>{''.join(frames)}</body>", encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000"]
    command += ["--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'data-told="([^"]+)"', done.stdout)
    assert found, done.stdout[:500]
    told = json.loads(unquote(b64decode(found[1]).decode()))
    assert told == [{"over": 0, "past": []}] * len(names)
