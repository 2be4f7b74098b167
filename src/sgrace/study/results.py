"""Results of a study as one file, which others can check, compare and measure again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from .._util.errors import InputError
from .._util.files import write_text_atomically
from .._util.hashing import sha256_of_json
from .._util.provenance import versions
from .._util.settings import Settings
from .._util.text import read_json, shown
from ..evaluation import Evaluation
from ..evaluation.schema import Rate
from ..evaluation.training_samples import SpaceCurve
from .lines import Line
from .manifest import is_cost

#: What a file says of the detector.
IDENTITY = ("name", "version", "weights", "threshold")


class RowResult(Settings):
    """What was measured of one eraser on one concept: a :class:`Line` as it stands in a file."""

    table: str = Field(description="concept, model and suite", max_length=500)
    row: str = Field(description="eraser, preset and settings", max_length=500)
    seeds: tuple[int, ...] = Field(description="of erasing", min_length=1)
    protocol: dict[str, Any] = Field(description="model, precision, suite, prompts, seed and detector")
    settings: dict[str, Any] = Field(description="all settings of the eraser; none of a reference")
    verdicts: dict[str, tuple[tuple[bool, ...], ...]] = Field(
        description="of each attack: whether each prompt shows the concept, for each seed"
    )
    evaluations: tuple[Evaluation, ...] = Field(
        description="of each seed, without drift and concept space, which no table shows"
    )
    curves: tuple[tuple[SpaceCurve, ...], ...] = Field(
        (), description="where the samples of erasing lie, of each seed"
    )

    @classmethod
    def of(cls, table: str, line: Line) -> RowResult:
        """A row that was measured here."""
        verdicts = {name: tuple(tuple(found[name]) for found in line.verdicts) for name in line.verdicts[0]}
        return cls(
            table=table,
            row=line.title,
            seeds=tuple(line.seeds),
            protocol={**line.protocol, "detector": _identity(line.evaluations[0])},
            settings=dict(line.settings),
            verdicts=verdicts,
            evaluations=tuple(
                found.model_copy(update={"drift": (), "concept_space": ()}) for found in line.evaluations
            ),
            curves=tuple(map(tuple, line.curves)),
        )

    def line(self) -> Line:
        """As a row of a table."""
        verdicts = [
            {name: list(seeds[i]) for name, seeds in self.verdicts.items()} for i in range(len(self.seeds))
        ]
        curves = [list(each) for each in self.curves]
        return Line(
            title=self.row,
            protocol=self.protocol,
            settings=self.settings,
            seeds=list(self.seeds),
            evaluations=list(self.evaluations),
            verdicts=verdicts,
            curves=curves,
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of prompts of each attack."""
        return {attack: len(seeds[0]) for attack, seeds in self.verdicts.items()}

    @property
    def contradicts_itself(self) -> bool:
        """Whether its parts are not of the same seeds, prompts and attacks, or count more than there is."""
        n_prompts = {tuple(map(len, seeds)) for seeds in self.verdicts.values()}
        sizes = n_prompts.pop() if len(n_prompts) == 1 else ()
        questions = {tuple(row.question for row in found.retention) for found in self.evaluations}
        return (
            len(sizes) != len(self.seeds)
            or len(set(sizes)) != 1
            or 0 in sizes
            or len(set(self.seeds)) != len(self.seeds)
            or len(self.evaluations) != len(self.seeds)
            or len(self.curves) not in {0, len(self.seeds)}
            or len(questions) != 1
            or not all(_is_title(title) for title in (self.table, self.row))
            or not all(self._is_told_by(found, i) for i, found in enumerate(self.evaluations))
        )

    def _is_told_by(self, found: Evaluation, i: int) -> bool:
        """Whether an evaluation has this row's detector and verdicts of a seed, and figures that can be."""
        rates = [rate for row in found.retention for rate in (row.before, row.after) if rate]
        rates += [row.success for row in found.attacks]
        hits = {row.attack: row.success.hits for row in found.attacks}
        seconds, rows = found.cost.get("seconds"), found.cost.get("cost", {})
        return (
            hits.keys() == self.verdicts.keys()
            and len(hits) == len(found.attacks)
            # where every prompt is attacked, verdicts are of what the attack itself finds
            and (
                bool(self.protocol.get("every_prompt"))
                or all(hits[name] == sum(seeds[i]) for name, seeds in self.verdicts.items())
            )
            and _identity(found) == self.protocol.get("detector")
            and all(map(_is_share, rates))
            and isinstance(rows, dict)
            and all(value is None or is_cost(value) for value in (seconds, *rows.values()))
            and isinstance(found.cost.get("device"), str | None)
        )


def _is_title(text: str) -> bool:
    """Whether a text can stand in a table of Markdown."""
    return text.isprintable() and "|" not in text


def _is_share(rate: Rate) -> bool:
    """Whether the share is that of the counts, up to its four digits."""
    seen = rate.n if rate.observations is None else rate.observations
    return (
        0 <= rate.hits <= rate.n
        and 0 < seen <= rate.n < 2**31
        and abs(rate.share - rate.hits / rate.n) < 1e-4
    )


class Results(Settings):
    """Rows of a study, with the digest of all of it."""

    schema_version: Literal[3] = 3
    study: str = Field(description="name of the study")
    rows: tuple[RowResult, ...] = Field(description="finished rows")
    versions: dict[str, str] = Field(
        description="of the packages that wrote the file; evaluations have those that measured"
    )
    sha256: str = Field("", description="of everything else in the file")

    def digest(self) -> str:
        """SHA-256 of everything but itself."""
        return sha256_of_json(self.model_dump(mode="json", exclude={"sha256"}))

    def tables(self) -> dict[str, list[Line]]:
        """Rows by the name of their table."""
        found: dict[str, list[Line]] = {}
        for row in self.rows:
            found.setdefault(row.table, []).append(row.line())
        return found


def _identity(found: Evaluation) -> dict[str, Any]:
    return {key: found.detector.get(key) for key in IDENTITY}


def results_of(name: str, tables: Mapping[str, Sequence[Line]]) -> Results:
    """The finished rows of a study.

    Args:
        name: of the study.
        tables: rows by the name of their table.
    """
    rows = tuple(RowResult.of(table, line) for table, lines in tables.items() for line in lines)
    found = Results(study=name, rows=rows, versions=versions())
    return found.model_copy(update={"sha256": found.digest()})


def write_results(results: Results, file: Path) -> None:
    """Write the file, with a line for each row."""
    known = results.model_dump(mode="json")
    rows = ",\n".join(json.dumps(row) for row in known.pop("rows"))
    write_text_atomically(file, f'{json.dumps(known)[:-1]}, "rows": [\n{rows}\n]}}\n')


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
        if row.contradicts_itself:
            raise InputError(
                f"{shown(file)}: the row {row.row[:60]!r} of {row.table[:60]} contradicts itself."
            )
    if len({(row.table, row.row) for row in found.rows}) < len(found.rows):
        raise InputError(f"{shown(file)} has a row twice.")
    sizes = {row.table: row.sizes for row in found.rows}
    for row in found.rows:
        if row.sizes != sizes[row.table]:
            raise InputError(f"{shown(file)}: the rows of {row.table[:60]} have other attacks or prompts.")
    return found


def merged(own: Results, others: Sequence[Results], order: Sequence[tuple[str, str]] = ()) -> Results:
    """Results of several folders or machines as one: rows of all, and in each row the seeds of all.

    Args:
        own: where others have a row and seed too, this one's counts.
        others: of the same study.
        order: tables and rows as the study names them; what it does not name comes last.

    Raises:
        InputError: a row of one name was measured in two ways, or erased with other settings.
    """
    found = {(row.table, row.row): row for row in own.rows}
    for row in (row for other in others for row in other.rows):
        known = found.setdefault((row.table, row.row), row)
        if (known.protocol, known.settings, known.sizes) != (row.protocol, row.settings, row.sizes):
            raise InputError(
                f"The row {row.row[:60]!r} of {row.table[:60]} was measured or erased in two ways: such "
                "results cannot be put together."
            )
        found[row.table, row.row] = RowResult.of(row.table, _joined(known.line(), row.line()))
    names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
    tables = dict.fromkeys(table for table, _ in names)
    rows = tuple(found[name] for table in tables for name in names if name[0] == table)
    every = own.model_copy(update={"rows": rows})
    return every.model_copy(update={"sha256": every.digest()})


def _joined(one: Line, other: Line) -> Line:
    """A row with the seeds of both, in their order; of a seed that both have, that of the first."""
    seeds = {seed: (line, i) for line in (other, one) for i, seed in enumerate(line.seeds)}
    chosen = [seeds[seed] for seed in sorted(seeds)]
    return replace(
        one,
        seeds=sorted(seeds),
        evaluations=[line.evaluations[i] for line, i in chosen],
        verdicts=[line.verdicts[i] for line, i in chosen],
        curves=[line.curves[i] for line, i in chosen if line.curves],
    )
