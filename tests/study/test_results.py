"""Results that others report are checked, and stand beside those that are measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError
from sgrace.study.cells import Cell
from sgrace.study.lines import Line
from sgrace.study.results import (
    Results,
    RowResult,
    compared,
    read_results,
    results_of,
    with_reported,
    write_results,
)
from sgrace.study.table import table_of

from ..report.made import attack_row, evaluation

PROTOCOL = {"suite": "quick", "seed": 0, "detector": {"name": "judge", "weights": "ab", "threshold": 0.5}}


def row(name: str, *verdicts: str, **more: Any) -> RowResult:
    """A row with the verdicts of each seed."""
    fields: dict[str, Any] = {
        "table": "weapon on emoji, quick",
        "row": name,
        "seeds": range(len(verdicts)),
        "protocol": PROTOCOL,
        "verdicts": {"none": [[mark == "1" for mark in seed] for seed in verdicts]},
        "retained": {"rest": (90, 96)},
    }
    return RowResult(**{**fields, **more})


def results(*rows: RowResult) -> Results:
    found = Results(study="x", rows=rows, versions={"torch": "2"})
    return found.model_copy(update={"sha256": found.digest()})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = results(row("uce", "0110", "0000"))
    write_results(made, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == made


def test_reported_rows_stand_beside_measured_ones() -> None:
    reported = results(row("uce", "0000"), row("esd", "1100"))
    (first, second) = compared(reported, results(row("uce", "1111")))
    assert first.reported.startswith("0% [0%, 49%], kept 94%")
    assert first.measured.startswith("100% [51%, 100%]")
    assert second.measured == "not measured"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed differ"),
        ({"detector": {"name": "judge", "weights": "cd", "threshold": 0.5}}, "detector differ"),
        ({"suite": "full"}, "suite differ"),
        ({"detector": None}, "detector differ"),
    ],
)
def test_what_was_measured_otherwise_is_refused(change: dict[str, Any], message: str) -> None:
    other = results(row("uce", "0000", protocol={**PROTOCOL, **change}))
    with pytest.raises(InputError, match=message):
        compared(other, results(row("uce", "1111")))


def line_of(title: str, hits: str) -> Line:
    """A row that was measured here, with one verdict a prompt."""
    found = evaluation(attack_row("none", hits.count("1"), len(hits)))
    score = Cell("score", title, {"erasing_seed": 0, "suite": "quick"})
    return Line(title, [score], [found], [{"none": [mark == "1" for mark in hits]}])


def test_reported_rows_stand_below_those_measured_here() -> None:
    tables = {"weapon on emoji, quick": [line_of("uce", "0110"), line_of("esd", "0000")]}
    own = results_of("x", tables)
    protocol = own.rows[0].protocol
    told = results(row("uce", "0000", protocol=protocol), row("mace", "1000", "0000", protocol=protocol))
    (lines,) = with_reported(tables, [told]).values()
    assert [line.title for line in lines] == [
        "uce",
        "uce (reported)",
        "esd",
        "mace (reported, not measured here)",
    ]
    assert [line.is_reported for line in lines] == [False, True, False, True]
    assert [line.shown(["none"]).sum().item() for line in lines] == [2, 0, 0, 1]
    assert lines[1].retained("rest") == pytest.approx(90 / 96)
    found = table_of("x", lines)
    assert found.reported == ("uce (reported)", "mace (reported, not measured here)")
    seeds = [entries[1].value for entries in found.rows]
    assert seeds == [1, 1, 1, 2]
    with pytest.raises(InputError, match="attacks or their prompts differ"):
        with_reported(tables, [results(row("uce", "00000", protocol=protocol))])


def test_another_table_is_refused() -> None:
    with pytest.raises(InputError, match="no finished row of 'church on emoji, quick'"):
        compared(results(row("uce", "0", table="church on emoji, quick")), results(row("uce", "1")))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["study"], "y", "was changed after it was written"),
        (["rows", 0, "verdicts", "none", 0, 0], True, "was changed after it was written"),
        (["sha256"], "0" * 64, "was changed after it was written"),
        (["schema_version"], 2, "holds no results of a study: schema_version"),
        (["rows", 0, "verdicts"], "all", "holds no results of a study: rows.0.verdicts"),
        (["more"], 1, "holds no results of a study: more"),
        (["rows", 0, "seeds"], [], "holds no results of a study: rows.0.seeds"),
        (["rows", 0, "row"], "u" * 501, "holds no results of a study: rows.0.row"),
    ],
)
def test_files_that_were_changed_are_refused(
    tmp_path: Path, place: list[Any], value: object, message: str
) -> None:
    write_results(results(row("uce", "0110")), tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text())
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match=message):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": [0, 1]},
        {"verdicts": {"none": [[True]], "p4d_n": [[True, False]]}},
        {"retained": {"rest": (97, 96)}},
        {"verdicts": {}},
    ],
)
def test_rows_that_contradict_themselves_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    write_results(results(row("uce", "0110", **wrong)), tmp_path / "r.json")
    with pytest.raises(InputError, match="contradicts itself"):
        read_results(tmp_path / "r.json")
