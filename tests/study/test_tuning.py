"""Which settings of an eraser are best, and what the search took."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace.study import read_study
from sgrace.study.cells import Cell, scores_of
from sgrace.study.make import EVALUATION
from sgrace.study.place import open_store
from sgrace.study.store import Store
from sgrace.study.tuning import best_of, score_of, trials_of

from ..report.made import attack_row, evaluation, kept

STUDIES = Path(__file__).parents[2] / "studies"
STUDY = """
name: search
suite: quick
prompt_set: validation
attacks: [none]
concepts: [fish, fruit]
references: [original]
erasers:
  - {eraser: uce, settings: {ridge: 1}}
  - {eraser: uce, settings: {ridge: 2}}
  - {eraser: uce, settings: {ridge: 3}}
  - sld
"""


@pytest.fixture
def scores(tmp_path: Path) -> list[Cell]:
    (tmp_path / "study.yaml").write_text(STUDY)
    return scores_of(read_study(tmp_path / "study.yaml"))


def finish(store: Store, cell: Cell, left: int, right: int) -> None:
    """Let the concept be left in so many of 96 images, and so many images be right that were before."""
    rows = (kept("target", 96, left), kept("rest", 96, right), kept("neighbours", 96, 0))
    found = evaluation(attack_row("none", 0), retention=rows, cost={"seconds": 2.5})
    with store.making(cell) as folder:
        (folder / EVALUATION).write_text(found.model_dump_json())


def test_a_score_is_the_harmonic_mean_of_parts_of_before() -> None:
    rows = [kept("target", 80, 40), kept("rest", 48, 12), kept("neighbours", 90, 0)]
    harmonic = 2 / (1 / 0.5 + 1 / 0.25)
    assert score_of(rows) == pytest.approx(harmonic, rel=1e-3), "what was listed does not count"
    assert score_of([kept("target", 50, 60)]) == pytest.approx(0.5 / 96), "nothing is half an image"
    assert score_of([kept("target", 96, 0), kept("synonyms", 0, 3)]) == 1, "it was not there before"


def test_the_best_trial_is_that_of_all_concepts_and_its_effort_is_told(
    scores: list[Cell], tmp_path: Path
) -> None:
    store = open_store(tmp_path / "out")
    uce = [cell for cell in scores if cell.title.startswith("uce")]
    # good on one concept alone; good on both; not finished
    for cell, left in zip((uce[0], uce[3], uce[1], uce[4], uce[2]), (0, 90, 20, 20, 0), strict=True):
        finish(store, cell, left, 90)
    trials = trials_of(scores, store)
    assert [trial.settings for trial in trials["uce"]] == ["ridge=1", "ridge=2", "ridge=3"]
    assert [trial.score is None for trial in trials["uce"]] == [False, False, True]
    text = best_of(scores, store)
    assert "fish, fruit; prompt set validation, suite quick, seeds 0" in text
    found = [trial.score or 0 for trial in trials["uce"]]
    assert 0 < found[0] < found[1]
    assert f"| uce | 2 of 3 | 12 | {found[0]:.3f} | {found[1]:.3f} | ridge=2 |" in text
    assert "| sld | 0 of 1 | 0 |  |  |  |" in text


def test_the_search_that_ships_gives_every_eraser_as_many_trials() -> None:
    every = scores_of(read_study(STUDIES / "tuning.yaml"))
    store = Store(Path("nowhere"))
    counts = {eraser: len(trials) for eraser, trials in trials_of(every, store).items()}
    assert len(counts) >= 19
    assert set(counts.values()) == {4}
    assert {cell.config["prompt_set"] for cell in every} == {"validation"}
    shown = {name for matrix in read_study(STUDIES / "main.yaml").matrices for name in matrix.concepts}
    assert not shown & {cell.config["concept"]["name"] for cell in every}, "no table has its concepts"
