"""The results that ship are those of their study, at presets that are what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace._util import registry
from sgrace.study import read_study
from sgrace.study.cell import Cell
from sgrace.study.cells import scores_of
from sgrace.study.lines import PROTOCOL, tables_of
from sgrace.study.results import IDENTITY, RowResult, read_results

STUDIES = Path(__file__).parents[2] / "studies"
#: Of `detector` a study has its name, and results its identity.
SAME = [name for name in PROTOCOL if name != "detector"]


def rows_of(name: str) -> list[RowResult]:
    return list(read_results(STUDIES / "results" / f"{name}.json").rows)


def planned(name: str) -> dict[tuple[str, str, int], Cell]:
    """Scorings of a study, by table, row and seed."""
    scores = tables_of(scores_of(read_study(STUDIES / f"{name}.yaml")))
    return {(table, cell.config["row"], cell.config["erasing_seed"]): cell for cell, table in scores}


@pytest.mark.parametrize("name", [file.stem for file in sorted(STUDIES.glob("results/*.json"))])
def test_results_are_those_of_their_study_and_its_erasers_of_today(name: str) -> None:
    plan = planned(name)
    for row in rows_of(name):
        assert set(row.protocol["detector"]) == set(IDENTITY)
        for seed in row.seeds:
            config = plan[row.table, row.row, seed].config
            assert [row.protocol[key] for key in SAME] == [config.get(key) for key in SAME]
        if row.settings:
            erasure = plan[row.table, row.row, row.seeds[0]].needs["erasure"].config
            # what was added to a method since has its default
            known = registry.load("erasers", erasure["eraser"]).config_type(**row.settings)
            assert known.model_dump(mode="json") == erasure["resolved"], row.row


def test_every_eraser_is_compared() -> None:
    erasers = {row.evaluations[0].method for row in rows_of("main") if row.settings}
    assert erasers == set(registry.names("erasers"))
