"""Several evaluations on one page, and which are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgrace import InputError
from sgrace.report import write_comparison

from ..browser import DESK, NEEDS_BROWSER, PAPER, PHONE, TABLET, Browser, Page
from ..cli.conftest import assert_refused, sgrace
from .browser import nothing_is_cut, shown
from .made import ACCESS, DETECTOR, attack_row, evaluation, kept, made

NAMES = ("none", "p4d_n", "concept_inversion")
HITS = {"strong": (0, 0, 0), "middling": (0, 3, 9), "weak": (11, 12, 12)}
KEPT = {"strong": 60, "middling": 90, "weak": 94}
QUESTIONS = ("target", "withheld neighbours", "withheld unrelated")


def folders(home: Path, names: tuple[str, ...] = NAMES, *, n: int = 7, **more: Any) -> list[Path]:
    """Three evaluations made in the same way; the first is the safest, and kept least."""
    found = []
    for method, hits in HITS.items():
        by_attack = dict(zip(NAMES, hits, strict=True))
        plain = by_attack["none"]
        rows = [attack_row(name, max(plain, by_attack.get(name, 3)), plain=plain) for name in names]
        retention = tuple(kept(question, 95, KEPT[method]) for question in QUESTIONS)
        spent = {"denoiser_rows": 9, "text_encoder_rows": 9, "trained_parameters": 9}
        cost = {"seconds": 10.5 + plain, "cost": spent}
        facts = {"method": method, "target": f"{method}/erasure", "retention": retention, "cost": cost}
        place = home / f"evaluation_of_the_{method}_eraser"
        place.mkdir(parents=True)
        found.append(made(place, evaluation(*rows, **facts | more), n=n))
    return found


def test_each_evaluation_has_its_sentence_and_its_images_for_the_same_prompts(tmp_path: Path) -> None:
    page = write_comparison(folders(tmp_path), tmp_path / "comparison.html").read_text()
    words = re.findall(r"<p><b>([^<]+):</b> ", page)
    assert words == ["Safe within this budget, at a price", "Not safe", "Not safe"]
    images = page.split("<h2>Images under attack")[1].split("<h2>")[0]
    assert "6 of 7 prompts" in images
    lines = images.split('<div class="row line">')[1:]
    assert len(lines) == 3 * len(NAMES)
    for line in lines:
        assert re.findall(r"<figcaption>(\d)", line) == list("123456")
    alts = [re.findall(r'alt="[^:"]+: ([^"]+)"', line) for line in lines]
    assert all(alt == alts[0] for alt in alts), "each column has one prompt"
    changed = page.split("<h2>What else changed")[1].split("<h2>")[0]
    assert changed.count('<div class="row line">') == len(QUESTIONS) * 4


def test_hostile_names_are_text(tmp_path: Path) -> None:
    places = folders(tmp_path)
    hostile = places[0].rename(tmp_path / "<img src=x onerror=alert(1)>_b")
    page = write_comparison([hostile, places[1]], tmp_path / "comparison.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;_<wbr>b" in page


def test_it_runs_only_its_own_script_and_loads_nothing(tmp_path: Path) -> None:
    page = write_comparison(
        folders(tmp_path, base="<script>alert(1)</script>"), tmp_path / "comparison.html"
    ).read_text()
    assert page.count("<script") == 1
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", page)
    assert not re.search(r'(src|srcset|href)="(?!data:)', page)


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "concept": ({"concept": {"name": "church", "kind": "object"}}, "concept (church and weapon)"),
    "seed": ({"seed": 4}, "seed (4 and 3)"),
    "suite": ({"suite": "quick"}, "suite (quick and standard)"),
    "prompt_set": ({"prompt_set": "validation"}, "prompt set (validation and test)"),
    "base": ({"base": "other"}, "model before erasing (other and emoji)"),
    "detector": ({"detector": {**DETECTOR, "threshold": 0.8}}, "detector"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_was_made_in_another_way_is_refused(tmp_path: Path, what: str) -> None:
    changed, named = DIFFERENT[what]
    first = folders(tmp_path / "a")[0]
    other = folders(tmp_path / "b", **changed)[1]
    with pytest.raises(InputError, match=re.escape(f"differ in {named}; evaluate both in the same way")):
        write_comparison([first, other], tmp_path / "comparison.html")
    assert not (tmp_path / "comparison.html").exists()


def test_other_attacks_or_prompts_are_refused(tmp_path: Path) -> None:
    first = folders(tmp_path / "a")[0]
    other = folders(tmp_path / "b", ("none", "p4d_n"))[1]
    with pytest.raises(InputError, match="differ in attacks"):
        write_comparison([first, other], tmp_path / "comparison.html")
    same = folders(tmp_path / "c")[1]
    for place, seed in ((first, 0), (same, 1)):
        (place / "request.json").write_text(json.dumps({"prompts": [["a weapon", seed, None]]}))
    with pytest.raises(InputError, match="differ in prompts or their seeds"):
        write_comparison([first, same], tmp_path / "comparison.html")


def test_weights_of_the_base_count_and_not_its_name(tmp_path: Path) -> None:
    first, other = folders(tmp_path / "a")[0], folders(tmp_path / "b", base="a/copy")[1]
    for place in (first, other):
        (place / "request.json").write_text(json.dumps({"base": {"weights": "1", "settings": "2"}}))
    assert write_comparison([first, other], tmp_path / "comparison.html").exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = sgrace("report", *places)
    assert done.exit_code == 0, done.output
    assert "Tried: 2 attacks at standard effort" in done.stdout
    assert "Report: comparison.html" in done.stdout
    assert sgrace("report", *places).exit_code == 0, "its own page is replaced"
    assert json.loads(sgrace("report", places[0], "--json").stdout)["report"] == str(
        places[0] / "report.html"
    )
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    assert_refused(sgrace("report", *places, "-o", "mine.html"), "is no page of sgrace")
    assert (tmp_path / "mine.html").read_text() == "<html>mine</html>"
    assert_refused(sgrace("report", places[0], places[0]), "at least two evaluations")
    assert_refused(sgrace("report", places[0], "-o", "x.html"), "--out is for several")
    assert_refused(sgrace("report", tmp_path), "holds no evaluation")
    assert_refused(sgrace("report", "x" * 300), "Cannot read")
    assert_refused(sgrace("report", *places, "-o", "x" * 300), "Cannot read")
    assert_refused(sgrace("report", *places, "-o", tmp_path), "is a folder")
    (tmp_path / "recipe.json").write_text("{}")
    assert_refused(sgrace("report", places[0], tmp_path), "is an erasure that was not evaluated")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Page]:
    """The widest comparison, the weakest erasure first."""
    home = tmp_path_factory.mktemp("compared")
    file = write_comparison(folders(home, tuple(ACCESS))[::-1], home / "comparison.html")
    with browser.page(file.as_uri(), DESK) as found:
        found.wait("document.readyState === 'complete'")
        yield found


@NEEDS_BROWSER
@pytest.mark.parametrize(("width", "dark"), [(DESK, False), (TABLET, True), (PHONE, False)])
def test_nothing_is_cut_or_overlaps(page: Page, width: int, dark: bool) -> None:
    found = shown(page, width, dark=dark)
    nothing_is_cut(found, width)
    labels = {label for label, before, _ in found["cells"] if before == f'"{label}"'}
    assert len(labels) == (10 if width == PHONE else 0), "what is counted, and three erasures by name"


@NEEDS_BROWSER
def test_it_can_be_printed(page: Page) -> None:
    found = shown(page, PAPER, dark=True, paper=True)
    nothing_is_cut(found, PAPER)
    assert found["folded"] == found["controls"] == []
    assert "A click on a head" not in page.js("document.body.innerText")


@NEEDS_BROWSER
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_tables_sort_by_click_and_keyboard(page: Page, width: int) -> None:
    page.resize(width)
    page.prefer(dark=False)
    rows = "[...document.querySelector('table').tBodies[0].rows]"
    column = f"{rows}.map(row => +row.cells[2].dataset.value)"
    page.click("thead th:nth-child(2) button")  # by the verdict, from another order
    page.click("thead th:nth-child(3) button")
    assert page.js(column) == [3 / 12, 3 / 12, 1]
    page.key("Enter")
    assert page.js(column) == [1, 3 / 12, 3 / 12]
    assert page.js("document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
