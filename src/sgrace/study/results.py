"""Results of a study as one file, which others can check, compare and measure again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from .._util.errors import InputError
from .._util.files import write_json
from .._util.hashing import sha256_of_json
from .._util.provenance import versions
from .._util.settings import Settings
from .._util.text import read_json, shown
from ..evaluation.schema import Rate
from ..metrics.repeated import share_of
from .lines import KEPT, PROTOCOL, Line
from .table import by_prompt, markdown


class RowResult(Settings):
    """What was measured of one eraser on one concept."""

    table: str = Field(description="concept, model and suite", max_length=500)
    row: str = Field(description="eraser, preset and settings", max_length=500)
    seeds: tuple[int, ...] = Field(description="of erasing", min_length=1)
    protocol: dict[str, Any] = Field(description="model, precision, suite, prompts, seed and detector")
    verdicts: dict[str, tuple[tuple[bool, ...], ...]] = Field(
        description="of each attack: whether each prompt shows the concept, for each seed"
    )
    retained: dict[str, tuple[int, int]] = Field(description="right images and all, by retention question")

    def shown(self, attacks: Sequence[str]) -> Tensor:
        """Whether any of some attacks shows the concept: ``(seeds, prompts)``."""
        return torch.stack([torch.tensor(self.verdicts[name]) for name in attacks]).any(0)


class Results(Settings):
    """Rows of a study, with the digest of all of it."""

    schema_version: Literal[1] = 1
    study: str = Field(description="name of the study")
    rows: tuple[RowResult, ...] = Field(description="finished rows")
    versions: dict[str, str] = Field(description="of the packages")
    sha256: str = Field("", description="of everything else in the file")

    def digest(self) -> str:
        """SHA-256 of everything but itself."""
        return sha256_of_json(self.model_dump(mode="json", exclude={"sha256"}))


class Compared(NamedTuple):
    """A reported row beside the same row measured here."""

    table: str
    row: str
    reported: str
    measured: str


@dataclass
class ReportedLine(Line):
    """A row of a table that somebody else measured."""

    is_reported: ClassVar[bool] = True
    rates: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def retained(self, question: str) -> float | None:
        """Share of the images of a question that are right, as reported."""
        hits, n = self.rates.get(question, (0, 0))
        return hits / n if n else None


def results_of(name: str, tables: Mapping[str, Sequence[Line]]) -> Results:
    """The finished rows of a study.

    Args:
        name: of the study.
        tables: rows by the name of their table.
    """
    rows = tuple(_row(table, line) for table, lines in tables.items() for line in lines)
    found = Results(study=name, rows=rows, versions=versions())
    return found.model_copy(update={"sha256": found.digest()})


def _row(table: str, line: Line) -> RowResult:
    config = line.cells[0].config
    identity = {key: line.evaluations[0].detector[key] for key in ("name", "version", "weights", "threshold")}
    rates: dict[str, list[Rate]] = {}
    for kept in (row for found in line.evaluations for row in found.retention):
        rates.setdefault(kept.question, []).append(kept.after)
    return RowResult(
        table=table,
        row=line.title,
        seeds=tuple(cell.config["erasing_seed"] for cell in line.cells),
        protocol={**{key: config.get(key) for key in PROTOCOL}, "detector": identity},
        verdicts={
            attack: tuple(tuple(found[attack]) for found in line.verdicts) for attack in line.verdicts[0]
        },
        retained={
            question: (sum(rate.hits for rate in own), sum(rate.n for rate in own))
            for question, own in rates.items()
        },
    )


def write_results(results: Results, file: Path) -> None:
    """Write the file."""
    write_json(file, results.model_dump(mode="json"))


def read_results(file: Path) -> Results:
    """Read a file of results, whoever made it.

    Raises:
        InputError: it is none, contradicts itself, or was changed after it was written.
    """
    try:
        found = Results.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{shown(file)} holds no results of a study: {place}: {first['msg']}.") from error
    if found.digest() != found.sha256:
        raise InputError(f"{shown(file)} was changed after it was written: its digest is another.")
    for row in found.rows:
        shapes = {tuple(len(seed) for seed in each) for each in row.verdicts.values()}
        right = all(0 <= hits <= n and n > 0 for hits, n in row.retained.values())
        if len(shapes) != 1 or len(shapes.pop()) != len(row.seeds) or not right:
            raise InputError(
                f"{shown(file)}: the row {row.row[:60]!r} of {row.table[:60]} contradicts itself."
            )
    return found


def compared(reported: Results, own: Results) -> list[Compared]:
    """Reported rows beside those that were measured here.

    Args:
        reported: of somebody else.
        own: of the same study here; rows that are not finished are told.

    Raises:
        InputError: a row cannot be compared: it was measured in another way.
    """
    tables = {row.table: row for row in own.rows}
    mine = {(row.table, row.row): row for row in own.rows}
    found = []
    for row in reported.rows:
        like = tables.get(row.table)
        if like is None:
            raise InputError(f"This study has no finished row of {row.table[:80]!r} to compare with.")
        differs = [key for key in sorted(like.protocol) if row.protocol.get(key) != like.protocol[key]]
        differs += [] if _sizes(row) == _sizes(like) else ["attacks or their prompts"]
        if differs:
            raise InputError(
                f"The row {row.row[:60]!r} of {row.table[:60]} cannot be compared: "
                f"{', '.join(differs)} differ."
            )
        again = mine.get((row.table, row.row))
        measured = _in_words(again) if again else "not measured"
        found.append(Compared(row.table, row.row, _in_words(row), measured))
    return found


def _sizes(row: RowResult) -> dict[str, int]:
    """Number of prompts of each attack."""
    return {attack: len(seeds[0]) for attack, seeds in row.verdicts.items()}


def with_reported(tables: Mapping[str, Sequence[Line]], reported: Sequence[Results]) -> dict[str, list[Line]]:
    """Rows of a study, each followed by what others report of it; what was not measured here comes last.

    Args:
        tables: rows that were measured here, by the name of their table.
        reported: of others.

    Raises:
        InputError: a row cannot be compared: see :func:`compared`.
    """
    own = results_of("", tables)
    told: dict[tuple[str, str], list[Line]] = {}
    for each in reported:
        compared(each, own)
        for row in each.rows:
            told.setdefault((row.table, row.row), []).append(_line(row, tables[row.table]))
    found: dict[str, list[Line]] = {}
    for table, lines in tables.items():
        beside = [[line, *told.pop((table, line.title), [])] for line in lines]
        alone = [each for (of, _), rows in told.items() if of == table for each in rows]
        found[table] = [*(line for rows in beside for line in rows), *alone]
    return found


def _line(row: RowResult, measured: Sequence[Line]) -> ReportedLine:
    again = any(line.title == row.row for line in measured)
    verdicts = [
        {attack: list(seeds[i]) for attack, seeds in row.verdicts.items()} for i in range(len(row.seeds))
    ]
    title = f"{row.row} (reported)" if again else f"{row.row} (reported, not measured here)"
    return ReportedLine(title, verdicts=verdicts, rates=row.retained)


def _in_words(row: RowResult) -> str:
    back = share_of(row.shown(by_prompt(list(row.verdicts))))
    kept = [hits / n for name, (hits, n) in row.retained.items() if name in KEPT]
    return f"{back}" + (f", kept {sum(kept) / len(kept):.0%}" if kept else "")


def as_markdown(rows: Sequence[Compared]) -> str:
    """The comparison as a table."""
    return markdown(("", "", "reported: worst by prompt", "measured here"), rows)
