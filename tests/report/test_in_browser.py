"""The report in headless Chromium: at three widths, light and dark, by finger and keyboard, on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgrace.report import write_report
from sgrace.report.terms import TERMS

from ..browser import DESK, NEEDS_BROWSER, PAPER, PHONE, TABLET, Browser, Page
from .browser import TIPS, UNFOLD, brightness, contrast, look, nothing_is_cut, shown
from .made import ACCESS, finest, made

pytestmark = NEEDS_BROWSER
N = 7  # a second line of images that is not full
LOOKS = [(width, dark) for width in (DESK, TABLET, PHONE) for dark in (False, True)]
TERM = "#verdict ~ p .term"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The widest page."""
    return write_report(made(tmp_path_factory.mktemp("report"), finest(), n=N))


@pytest.fixture(scope="module")
def page(file: Path, browser: Browser) -> Iterator[Page]:
    """The page, open."""
    with browser.page(file.as_uri(), DESK) as found:
        found.wait("document.readyState === 'complete'")
        yield found


@pytest.fixture(scope="module")
def looks(page: Page) -> dict[tuple[int, bool], dict[str, Any]]:
    """The page in every look."""
    return {each: shown(page, each[0], dark=each[1]) for each in LOOKS}


@pytest.fixture(scope="module")
def paper(page: Page) -> dict[str, Any]:
    """The page as it is printed by somebody who reads in the dark and has unfolded nothing."""
    return shown(page, PAPER, dark=True, paper=True)


@pytest.mark.parametrize("each", LOOKS)
def test_nothing_is_cut_or_overlaps(
    looks: dict[tuple[int, bool], dict[str, Any]], each: tuple[int, bool]
) -> None:
    nothing_is_cut(looks[each], each[0])
    assert looks[each]["title"] == "sgrace: weapon"
    assert looks[each]["images"] == N * (1 + len(ACCESS)) + 2 * 6 * 6


def test_on_a_phone_each_cell_says_what_it_is(looks: dict[tuple[int, bool], dict[str, Any]]) -> None:
    cells = looks[PHONE, False]["cells"]
    assert len(cells) > 100
    for label, before, width in cells:
        assert label, "every cell has the head of its column"
        assert before == f'"{label}"'
        assert width > 0.7 * PHONE, "a line of its own"
    assert {before for _, before, _ in looks[TABLET, False]["cells"]} == {"none"}


@pytest.mark.parametrize("width", [DESK, TABLET, PHONE])
def test_terms_are_explained_where_the_keyboard_stands(page: Page, width: int) -> None:
    page.resize(width)
    page.prefer(dark=False)
    page.js(UNFOLD)
    tips = page.js(TIPS)
    assert len(tips) > 10
    for tip in tips:
        assert tip["shown"], tip
        assert tip["inside"], f"the explanation of {tip['word']!r} leaves the window"
        assert any(meaning in tip["text"].replace("\u00a0", " ") for meaning in TERMS.values())


def test_a_finger_opens_an_explanation_and_closes_it(page: Page) -> None:
    page.resize(PHONE)
    display = f"getComputedStyle(document.querySelector('{TERM} .tip')).display"
    assert page.js(display) == "none"
    page.tap(TERM)
    page.wait(f"{display} === 'block'", 5)
    page.tap("h1")
    page.wait(f"{display} === 'none'", 5)


@pytest.mark.parametrize("each", LOOKS)
def test_text_can_be_read_on_its_paper(
    looks: dict[tuple[int, bool], dict[str, Any]], each: tuple[int, bool]
) -> None:
    found = looks[each]
    worst = min(contrast(colour, found["paper"]) for colour in [found["ink"], *found["contrasts"]])
    assert worst >= 4.5


def test_a_click_lifts_the_veil_and_the_keyboard_lets_it_down(page: Page) -> None:
    page.resize(DESK)
    blur = "getComputedStyle(document.querySelector('.seen .veil img')).filter"
    assert "blur" in page.js(blur)
    page.click(".seen .veil")
    assert page.js(blur) == "none"
    page.key(" ")
    assert "blur" in page.js(blur)


def test_the_red_frame_is_seen_around_a_blurred_image(page: Page) -> None:
    page.prefer(dark=False)
    red, green, blue = map(int, re.findall(r"\d+", _style(page, ".seen .frame", "borderTopColor"))[:3])
    assert red > 2 * max(green, blue)
    assert float(_style(page, ".seen .frame", "borderTopWidth").removesuffix("px")) >= 2
    assert _style(page, ".seen .frame", "filter") == "none", "only the image is blurred"
    clean = _style(page, "figure:not(.seen) .frame", "borderTopColor")
    assert clean != _style(page, ".seen .frame", "borderTopColor")


def _style(page: Page, selector: str, name: str) -> str:
    return str(page.js(f"getComputedStyle(document.querySelector('{selector}')).{name}"))


def test_dark_where_the_reader_wants_it_dark(looks: dict[tuple[int, bool], dict[str, Any]]) -> None:
    light, dark = looks[DESK, False], looks[DESK, True]
    assert brightness(light["paper"]) > 5 * brightness(light["ink"])
    assert 5 * brightness(dark["paper"]) < brightness(dark["ink"])


def test_on_paper_all_is_open_light_and_nothing_is_to_press(
    paper: dict[str, Any], looks: dict[tuple[int, bool], dict[str, Any]]
) -> None:
    nothing_is_cut(paper, PAPER)
    assert paper["folded"] == []
    assert paper["controls"] == []
    assert looks[DESK, True]["controls"], "there is something to press on a screen"
    assert paper["filters"]
    assert all("blur" in each for each in paper["filters"])
    opaque = [each for each in paper["papers"] if each != "rgba(0, 0, 0, 0)"]
    assert min(map(brightness, opaque)) > 3 * 225, "no paper is dark"
    assert brightness(paper["ink"]) < 200


def test_it_is_printed_on_a4(page: Page) -> None:
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    sizes = {tuple(map(float, each.split())) for each in re.findall(rb"/MediaBox\s*\[([^]]*)\]", printed)}
    assert [[round(number) for number in size] for size in sizes] == [[0, 0, 595, 842]]
    assert 3 < printed.count(b"/Type /Page\n") < 30


def test_the_measure_sees_what_overlaps_and_what_is_cut(file: Path, browser: Browser, tmp_path: Path) -> None:
    broken = file.read_text().replace(
        "</style>",
        ".row h3 { margin-bottom: -1.2rem; } .card { white-space: nowrap; overflow: hidden; }"
        " table { display: table !important; width: 500px !important; }</style>",
    )
    (tmp_path / "broken.html").write_text(broken)
    found = look(browser, tmp_path / "broken.html", PHONE)
    assert len(found["overlaps"]) > 10
    assert any(".card" in name for name in found["cut"])
    assert any(name.startswith("TABLE") for name in found["outside"])
