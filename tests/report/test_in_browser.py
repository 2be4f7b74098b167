"""The report in headless Chromium, at three widths, light and dark: nothing is cut, nothing overlaps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sgrace.report import write_report
from sgrace.report.terms import TERMS

from .browser import BROWSER, DESK, PHONE, TABLET, brightness, contrast, look
from .made import ACCESS, attack_row, evaluation, kept, made

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
QUESTIONS = (
    "target",
    "synonyms",
    "neighbours",
    "withheld neighbours",
    "unrelated",
    "withheld unrelated",
    "rest",
)
N = 7  # a second line of images that is not full
LOOKS = [(width, dark) for width in (DESK, TABLET, PHONE) for dark in (False, True)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten attacks, long prompts, candidates without a space, a retrained model: the widest page."""
    rows = [attack_row(name, 3, gold=1) for name in ACCESS]
    found = evaluation(*rows, suite="quick", retention=tuple(kept(q, 90, 60) for q in QUESTIONS))
    return write_report(made(tmp_path_factory.mktemp("report"), found, n=N))


@pytest.fixture(scope="module")
def looks(page: Path) -> dict[tuple[int, bool], dict[str, Any]]:
    """The page in every look."""
    return {each: look(page, each[0], dark=each[1]) for each in LOOKS}


@pytest.mark.parametrize("each", LOOKS)
def test_nothing_is_cut_or_overlaps(
    looks: dict[tuple[int, bool], dict[str, Any]], each: tuple[int, bool]
) -> None:
    found = looks[each]
    assert found["width"] == each[0]
    assert found["title"] == "sgrace: weapon"
    pairs = 2 * 6 * (len(QUESTIONS) - 1)
    assert found["drawn"] == found["images"] == N * (1 + len(ACCESS)) + pairs
    assert found["things"] > 200, "there is something to compare"
    assert found["overlaps"] == []
    assert not found["wide"]
    assert found["outside"] == []
    assert found["cut"] == [], "no text is wider than its box"
    if each[0] != PHONE:
        assert found["scrolling"] == [], "no table is cut, and every image is in sight"


@pytest.mark.parametrize("each", LOOKS)
def test_terms_are_explained_where_the_keyboard_stands(
    looks: dict[tuple[int, bool], dict[str, Any]], each: tuple[int, bool]
) -> None:
    tips = looks[each]["tips"]
    assert len(tips) > 10
    for tip in tips:
        assert tip["shown"], tip
        assert tip["inside"], f"the explanation of {tip['word']!r} leaves the window"
        assert any(meaning in tip["text"] for meaning in TERMS.values())


@pytest.mark.parametrize("each", LOOKS)
def test_text_can_be_read_on_its_paper(
    looks: dict[tuple[int, bool], dict[str, Any]], each: tuple[int, bool]
) -> None:
    found = looks[each]
    worst = min(contrast(colour, found["paper"]) for colour in [found["ink"], *found["contrasts"]])
    assert worst >= 4.5


def test_a_click_lifts_the_veil_and_another_lets_it_down(
    looks: dict[tuple[int, bool], dict[str, Any]],
) -> None:
    found = looks[DESK, False]
    assert "blur" in found["filters"][0]
    assert found["filters"] == [found["filters"][0], "none", found["filters"][0]]
    assert found["focusable"], "the keyboard reaches it"


def test_the_red_frame_is_seen_around_a_blurred_image(looks: dict[tuple[int, bool], dict[str, Any]]) -> None:
    found = looks[DESK, False]
    red, green, blue = map(int, re.findall(r"\d+", found["frame"])[:3])
    assert red > 2 * max(green, blue)
    assert found["frameWidth"] >= 2
    assert found["frameFilter"] == "none", "only the image is blurred"
    assert found["clean"] != found["frame"]


def test_dark_where_the_reader_wants_it_dark(looks: dict[tuple[int, bool], dict[str, Any]]) -> None:
    light, dark = looks[DESK, False], looks[DESK, True]
    assert brightness(light["paper"]) > 5 * brightness(light["ink"])
    assert 5 * brightness(dark["paper"]) < brightness(dark["ink"])


def test_the_probe_sees_what_overlaps_and_what_is_cut(page: Path, tmp_path: Path) -> None:
    broken = page.read_text().replace(
        "</style>",
        ".row h3 { margin-bottom: -1.2rem; } .card { white-space: nowrap; overflow: hidden; }</style>",
    )
    (tmp_path / "broken.html").write_text(broken)
    found = look(tmp_path / "broken.html", PHONE)
    assert len(found["overlaps"]) > 10
    assert any(".card" in name for name in found["cut"])
