"""Results that others report are checked, and stand beside those that are measured here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgrace._util.errors import InputError
from sgrace.evaluation.schema import Evaluation, Rate
from sgrace.evaluation.training_samples import SpaceCurve
from sgrace.study.lines import Line
from sgrace.study.reported import compared, with_reported
from sgrace.study.results import (
    Results,
    RowResult,
    merged,
    read_results,
    write_results,
)
from sgrace.study.space import space_rows
from sgrace.study.table import table_of

from ..report.made import attack_row, evaluation, kept

TABLE = "weapon on emoji, quick"
CURVE = SpaceCurve("erasure", 2.0, (8,), ((0.5,) * 3,), ((1.0,) * 3,), ((0.1,) * 3,))


def line(title: str, *verdicts: str, right: int = 90, **more: Any) -> Line:
    """A row that was measured here, with the verdicts of each seed, and right images of 96."""
    found = Line(title, {"suite": "quick", "seed": 0, "concept": {"name": "weapon"}}, {"lr": 1.0})
    for seed, marks in enumerate(verdicts):
        rows = (attack_row("none", marks.count("1"), len(marks)),)
        cost = {"seconds": 3.0, "cost": {"denoiser_rows": 7}}
        found.seeds.append(seed)
        found.evaluations.append(
            evaluation(*rows, retention=(kept("rest", 90, right),), **{"cost": cost, **more})
        )
        found.verdicts.append({"none": [mark == "1" for mark in marks]})
        found.curves.append([CURVE])
    return found


def row(title: str, *verdicts: str, table: str = TABLE, **more: Any) -> RowResult:
    """The like, as it stands in a file."""
    return RowResult.of(table, line(title, *verdicts, **more))


def results(*rows: RowResult) -> Results:
    found = Results(study="x", rows=rows, versions={"torch": "2"})
    return found.model_copy(update={"sha256": found.digest()})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = results(row("uce", "0110", "0000"))
    write_results(made, tmp_path / "r.json")
    found = read_results(tmp_path / "r.json")
    assert found.digest() == made.digest()
    (lines,) = found.tables().values()
    assert table_of(TABLE, lines) == table_of(TABLE, [line("uce", "0110", "0000")])
    assert space_rows(lines) == space_rows([line("uce", "0110", "0000")])


def test_reported_rows_stand_beside_measured_ones() -> None:
    reported = results(row("uce", "0000"), row("esd", "1100"))
    (first, second) = compared(reported, results(row("uce", "1111")))
    assert first.reported == "0% [0%, 49%], kept 94%, seeds 0"
    assert first.measured.startswith("100% [51%, 100%]")
    assert second.measured == "not measured"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed differ"),
        (
            {"detector": {"name": "eye", "version": "2.1", "weights": "cd", "threshold": 0.5}},
            "detector differ",
        ),
        ({"suite": "full"}, "suite differ"),
        ({"detector": None}, "detector differ"),
    ],
)
def test_what_was_measured_otherwise_is_refused(change: dict[str, Any], message: str) -> None:
    told = row("uce", "0000")
    other = results(told.model_copy(update={"protocol": {**told.protocol, **change}}))
    with pytest.raises(InputError, match=message):
        compared(other, results(row("uce", "1111")))


def test_what_was_erased_with_other_settings_is_refused() -> None:
    told = results(row("uce", "0000").model_copy(update={"settings": {"lr": 2.0}}))
    with pytest.raises(InputError, match="settings of the eraser differ"):
        compared(told, results(row("uce", "1111")))
    (alone,) = compared(told, results(row("esd", "1111")))
    assert alone.measured == "not measured"


def test_reported_rows_stand_below_those_measured_here() -> None:
    tables = {TABLE: [line("uce", "0110"), line("esd", "0000")]}
    told = results(row("uce", "0000"), row("mace", "1000", "0000"))
    (lines,) = with_reported(tables, [told]).values()
    assert [line.title for line in lines] == [
        "uce",
        "uce (reported)",
        "esd",
        "mace (reported, not measured here)",
    ]
    assert [line.is_reported for line in lines] == [False, True, False, True]
    assert [line.shown(["none"]).sum().item() for line in lines] == [2, 0, 0, 1]
    assert lines[1].kept == pytest.approx(90 / 96)
    found = table_of("x", lines)
    assert found.reported == (False, True, False, True)
    seeds = [entries[1].value for entries in found.rows]
    assert seeds == [1, 1, 1, 2]
    with pytest.raises(InputError, match="attacks or their prompts differ"):
        with_reported(tables, [results(row("uce", "00000"))])


def test_results_of_several_machines_are_put_together() -> None:
    here = results(row("uce", "0000", "0001"), row("esd", "1111"))
    there = row("uce", "1111", "1110", "0110").model_copy(update={"seeds": (1, 2, 4)})
    order = [(TABLE, "mace"), (TABLE, "never measured"), (TABLE, "uce"), (TABLE, "esd")]
    found = merged(here, [results(there, row("mace", "0100"), row("uce", "0", table="other"))], order)
    assert found.sha256 == found.digest()
    assert [(each.table, each.row) for each in found.rows] == [
        (TABLE, "mace"),
        (TABLE, "uce"),
        (TABLE, "esd"),
        ("other", "uce"),
    ]
    joined = found.rows[1]
    assert joined.seeds == (0, 1, 2, 4)
    assert [sum(seed) for seed in joined.verdicts["none"]] == [0, 1, 3, 2], "seed 1 is that of here"
    assert [each.attacks[0].success.hits for each in joined.evaluations] == [0, 1, 3, 2]
    assert len(joined.curves) == 4


@pytest.mark.parametrize("change", [{"settings": {"lr": 2.0}}, {"protocol": {"suite": "full"}}])
def test_results_of_other_settings_are_not_put_together(change: dict[str, Any]) -> None:
    other = results(row("uce", "0000").model_copy(update=change))
    with pytest.raises(InputError, match="in two ways"):
        merged(results(row("uce", "0000")), [other])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("uce", "0110", "0110").model_copy(update={"seeds": (0, 0)})], "contradicts itself"),
        ([row("uce", "0110", "01")], "contradicts itself"),
        ([row("uce", "0110").model_copy(update={"verdicts": {"none": ((),)}})], "contradicts itself"),
        ([row("uce", "0110"), row("uce", "0000")], "has a row twice"),
        ([row("uce", "0110"), row("esd", "01")], "have other attacks or prompts"),
    ],
)
def test_rows_that_cannot_stand_together_are_refused(
    tmp_path: Path, rows: list[RowResult], message: str
) -> None:
    write_results(results(*rows), tmp_path / "r.json")
    with pytest.raises(InputError, match=message):
        read_results(tmp_path / "r.json")


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


def attacks_of(found: Evaluation) -> dict[str, Any]:
    return {"attacks": (*found.attacks, attack_row("p4d_n", 1, 4))}


def rates_of(found: Evaluation) -> dict[str, Any]:
    return {"retention": (found.retention[0].model_copy(update={"after": rate_of(found, 97)}),)}


def share_of(found: Evaluation) -> dict[str, Any]:
    after = found.retention[0].after.model_copy(update={"share": 7.0})
    return {"retention": (found.retention[0].model_copy(update={"after": after}),)}


def rate_of(found: Evaluation, hits: int) -> Rate:
    return found.retention[0].after.model_copy(update={"hits": hits})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": (0, 1)},
        {"verdicts": {"none": ((True,),), "p4d_n": ((True, False),)}},
        {"verdicts": {}},
        {"evaluations": ()},
        {"curves": ((CURVE,), (CURVE,))},
        {"protocol": {"suite": "quick"}},
        {"table": "weapon | emoji"},
        {"row": "uce\n"},
    ],
)
def test_rows_that_contradict_themselves_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    write_results(results(row("uce", "0110").model_copy(update=wrong)), tmp_path / "r.json")
    with pytest.raises(InputError, match="contradicts itself"):
        read_results(tmp_path / "r.json")


@pytest.mark.parametrize(
    "wrong",
    [
        attacks_of,
        rates_of,
        lambda _: {"attacks": (attack_row("none", 3, 4),)},
        lambda _: {"detector": {}},
        lambda _: {"cost": {"device": 1}},
        share_of,
        lambda _: {"cost": {"seconds": "3"}},
        lambda _: {"cost": {"seconds": -1.0}},
        lambda _: {"cost": {"seconds": 10**400}},
        lambda _: {"cost": {"cost": []}},
        lambda _: {"cost": {"seconds": 3.0, "cost": {"denoiser_rows": "7"}}},
    ],
)
def test_evaluations_that_do_not_belong_to_their_row_are_refused(
    tmp_path: Path, wrong: Callable[[Evaluation], dict[str, Any]]
) -> None:
    told = row("uce", "0110")
    (found,) = told.evaluations
    other = told.model_copy(update={"evaluations": (found.model_copy(update=wrong(found)),)})
    write_results(results(other), tmp_path / "r.json")
    with pytest.raises(InputError, match="contradicts itself"):
        read_results(tmp_path / "r.json")
