"""Where the samples that erasers train on lie: made beside the erasure, told in a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError
from sgrace._util.text import read_json
from sgrace.evaluation.training_samples import SpaceCurve
from sgrace.study import Store, read_study
from sgrace.study.cells import scores_of
from sgrace.study.engine import inline
from sgrace.study.lines import Line, lines_of
from sgrace.study.make.space import CURVES, TRAINED
from sgrace.study.page import write_page
from sgrace.study.place import open_store
from sgrace.study.plots import BOTTOM, HEIGHT, LEFT, WIDTH, space_plot
from sgrace.study.space import HEAD, LEAST, predictions, space_rows

from ..erasers.cases import CASES
from ..report.made import attack_row, evaluation, kept
from .made import OPTIONS, cells, write_study

RACE = {"eraser": "race", "settings": CASES["race"].short}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_study(
        tmp_path_factory.mktemp("study"), erasers=["uce", RACE], training_samples=True, seeds=[0, 1]
    )
    # two words in each of the contexts make too few prompts of a concept's space
    (file.parent / "words.txt").write_text(
        f"church, {', '.join(f'chapel {i}' for i in range(9))}\n\ndog, tree\nboat, house\n"
    )
    return file


@pytest.fixture(scope="module")
def done(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(tmp_path_factory.mktemp("home") / "out")
    outcomes = list(inline(cells(study), store, OPTIONS))
    assert {outcome.status for outcome in outcomes} == {"made"}, [outcome.why for outcome in outcomes]
    return store


def curves(study: Path, store: Store) -> dict[str, list[SpaceCurve]]:
    found = [cell for cell in cells(study) if cell.kind == "space"]
    return {
        cell.title: [SpaceCurve(**each) for each in read_json(store.path(cell) / CURVES)] for cell in found
    }


def test_the_samples_of_an_erasure_are_kept_and_placed(study: Path, done: Store) -> None:
    found = curves(study, done)
    assert len(found) == 5
    ceiling, floor = found["concept space: original, church"]
    assert (ceiling.samples, floor.samples) == ("held out", "random tokens")
    assert ceiling.sizes == [8, 16, 20]
    mean, low, high = ceiling.coverage[0]
    assert low < mean < high, "draws of some of the samples"
    assert ceiling.off_concept[-1] == [1, 1, 1], "held-out prompts are its measure, and all are drawn once"
    assert floor.off_concept[-1][0] > 1
    assert found["concept space: uce, church, seed 0"] == [], "a closed form has no samples"
    trained = [curve for title, own in found.items() if "race" in title for curve in own]
    assert [curve.samples for curve in trained] == [TRAINED] * 2
    assert [curve.sizes for curve in trained] == [[2], [2]]
    assert trained[0] != trained[1]


def test_a_study_that_does_not_ask_makes_the_same_erasures_and_no_space(tmp_path: Path) -> None:
    asked = cells(write_study(tmp_path, training_samples=True))
    plain = cells(write_study(tmp_path))
    assert {cell.kind for cell in asked} - {cell.kind for cell in plain} == {"space"}
    for kind in ("erasure", "attack"):
        assert {c.id for c in asked if c.kind == kind} == {c.id for c in plain if c.kind == kind}


def test_a_table_has_a_row_for_each_seed(study: Path, done: Store) -> None:
    (lines,) = lines_of(scores_of(read_study(study)), done).values()
    rows = space_rows(lines)
    names = [row[0].text for row in rows]
    assert names[:2] == ["held out", "random tokens"]
    assert [name.rpartition(", ")[2] for name in names[2:]] == ["seed 0", "seed 1"]
    assert all(len(row) == len(HEAD) for row in rows)
    assert [row[1].text for row in rows] == ["20", "200", "2", "2"]
    assert rows[0][-2].text == "1.00", "one draw has no spread"
    assert "[" in rows[1][4].text, "of random tokens, 32 of 200 are drawn several times"


def row(coverage: float, back: int, spill_over: float, right: int) -> Line:
    """An erasure whose samples cover so much, after which so many of 8 prompts show the concept."""
    found = evaluation(attack_row("none", back, 8), retention=(kept("withheld neighbours", 90, right),))
    curve = SpaceCurve(TRAINED, 2.0, (8,), ((coverage,) * 3,), ((1.0,) * 3,), ((spill_over,) * 3,))
    verdicts = {"none": [i < back for i in range(8)]}
    return Line(f"{coverage}", {}, {}, [0], [found], [verdicts], [[curve]])


def test_coverage_is_compared_with_robustness_and_spill_over_with_damage() -> None:
    lines = [row(0.1 * i, 8 - i, 0.1 * i, 90 - 10 * i) for i in range(LEAST + 1)]
    first, second = predictions({"church": lines})
    assert "prompts brought back: -1.00 [" in first
    assert "neighbours lost: 1.00 [" in second
    assert first.endswith("6 pairs.")
    for told in lines[LEAST - 1 :]:
        told.is_reported = True
    assert predictions({"church": lines}) == [], "what others report is no measurement"
    assert predictions({"church": lines[: LEAST - 1]}) == [], "too few"


def test_a_hard_concept_does_not_hide_what_coverage_does_within_each() -> None:
    easy = [row(0.1 * i, 3 - i, 0, 90) for i in range(3)]
    hard = [row(0.5 + 0.1 * i, 8 - i, 0, 90) for i in range(3)]
    first, _ = predictions({"church": easy, "weapon": hard})
    assert "brought back: 0.54 [" in first
    assert "within each table: -1.00 [" in first


def test_a_model_without_words_is_refused(tmp_path: Path) -> None:
    given: dict[str, Any] = {"training_samples": True, "words": None}
    with pytest.raises(InputError, match="name a word file"):
        read_study(write_study(tmp_path, **given))


def test_the_page_shows_samples_beside_what_is_measured(tmp_path: Path) -> None:
    sizes = ((8, 0.2), (16, 0.5))
    lines = [row(0.1 * i, 8 - i, 0.1 * i, 90 - 10 * i) for i in range(LEAST)]
    curve = lines[1].curves[0][0]
    coverage = [(value,) * 3 for _, value in sizes]
    grown = curve._replace(
        sizes=[n for n, _ in sizes], coverage=coverage, off_concept=coverage, spill_over=coverage
    )
    lines[1].curves = [[grown]]
    plot = space_plot(lines)
    assert [tick.text for tick in plot.ticks] == ["8", "16", "32"]
    assert len(plot.paths) == LEAST
    assert [[float(end) for end in point.split(",")] for point in plot.paths[1].split()] == [
        [LEFT, BOTTOM - 0.2 * HEIGHT],
        [LEFT + WIDTH / 2, BOTTOM - 0.5 * HEIGHT],
    ]
    write_page("x", {"church": lines}, [], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<table>") == 2
    assert "Rank correlation of coverage" in text
    assert text.lstrip().startswith("<!doctype html>")
