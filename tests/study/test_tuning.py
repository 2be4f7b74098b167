"""Which settings of an eraser are best, and what the search took."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from sgrace._util import registry
from sgrace.study import read_study
from sgrace.study.cells import scores_of
from sgrace.study.lines import Line
from sgrace.study.pace import method_of
from sgrace.study.tuning import best_of, score_of, trials_of

from ..report.made import attack_row, evaluation, kept

STUDIES = Path(__file__).parents[2] / "studies"
PROTOCOL = {"suite": "quick", "prompt_set": "validation"}


def line(title: str, concept: str, *left: int) -> Line:
    """A row after which so many of 96 images show the concept, by seed, and 90 are right that were before."""
    found = Line(title, {**PROTOCOL, "concept": {"name": concept}})
    for seed, images in enumerate(left):
        rows = (kept("target", 96, images), kept("rest", 96, 90), kept("neighbours", 96, 0))
        found.seeds.append(seed)
        found.evaluations.append(evaluation(attack_row("none", 0), retention=rows, cost={"seconds": 2.5}))
    return found


def test_a_score_is_the_harmonic_mean_of_parts_of_before() -> None:
    rows = [kept("target", 80, 40), kept("rest", 48, 12), kept("neighbours", 90, 0)]
    harmonic = 2 / (1 / 0.5 + 1 / 0.25)
    assert score_of(rows) == pytest.approx(harmonic, rel=1e-3), "what was listed does not count"
    assert score_of([kept("target", 50, 60)]) == pytest.approx(0.5 / 96), "nothing is half an image"
    assert score_of([kept("target", 96, 0), kept("synonyms", 0, 3)]) == 1, "it was not there before"


def test_the_best_trial_is_that_of_all_concepts_and_its_effort_is_told() -> None:
    # good on one concept alone; good on both; not finished; a preset that rows name is searched by itself
    lines = [
        line("original", "fish", 96),
        line("uce (ridge=1)", "fish", 0),
        line("uce (ridge=2)", "fish", 20),
        line("uce (ridge=3)", "fish", 0),
        line("sgrace, full", "fish", 0),
        line("uce (ridge=1)", "fruit", 90),
        line("uce (ridge=2)", "fruit", 20),
        line("sgrace, full", "fruit", 0),
    ]
    trials = trials_of(lines)
    assert list(trials) == ["uce", "sgrace, full"]
    assert [trial.settings for trial in trials["uce"]] == ["ridge=1", "ridge=2", "ridge=3"]
    assert [trial.score is None for trial in trials["uce"]] == [False, False, True]
    text = best_of(lines)
    assert "fish, fruit; prompt set validation, suite quick, seeds 0" in text
    found = [trial.score or 0 for trial in trials["uce"]]
    assert 0 < found[0] < found[1]
    assert f"| uce | 2 of 3 | 12 | {found[0]:.3f} |  | {found[1]:.3f} | ridge=2 |" in text
    assert "| sgrace, full | 1 | 5 | " in text
    assert text.endswith("| as in the preset |")


def test_the_trial_with_the_settings_of_the_preset_is_told() -> None:
    lines = [line("uce (ridge=1)", "fish", 0), line("uce (ridge=2)", "fish", 20)]
    uce = registry.load("erasers", "uce")
    lines[1].settings = uce.preset("emoji", "object").config.model_dump(mode="json")
    trials = trials_of(lines)["uce"]
    assert [trial.is_preset for trial in trials] == [False, True]
    assert f" | {trials[1].score:.3f} | {trials[0].score:.3f} | ridge=1 |" in best_of(lines)
    unknown = trials_of([line("uce, of yesterday", "fish", 0), line("gone", "fish", 0)])
    assert [trial.is_preset for (trial,) in unknown.values()] == [False, False]


def test_the_search_that_ships_gives_every_eraser_as_many_trials() -> None:
    every = scores_of(read_study(STUDIES / "tuning.yaml"))
    points = {(method_of(cell.config["row"]), cell.config["row"]) for cell in every}
    counts = Counter(name for name, _ in points)
    assert len(counts) >= 20
    assert set(counts.values()) == {4}
    assert {cell.config["prompt_set"] for cell in every} == {"validation"}
    shown = {name for matrix in read_study(STUDIES / "main.yaml").matrices for name in matrix.concepts}
    assert not shown & {cell.config["concept"]["name"] for cell in every}, "no table has its concepts"
