"""Results of others: whether they can be compared, and what they say beside what was measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._util.errors import InputError
from ..metrics.repeated import share_of
from .lines import Line
from .results import Results, RowResult, results_of
from .table import by_prompt, markdown


class Compared(NamedTuple):
    """A reported row beside the same row measured here."""

    table: str
    row: str
    reported: str
    measured: str


def compared(reported: Results, own: Results) -> list[Compared]:
    """Reported rows beside those that were measured here.

    Args:
        reported: of somebody else.
        own: of the same study here; rows that are not finished are told.

    Raises:
        InputError: a row cannot be compared: it was measured in another way, or erased with other settings.
    """
    tables = {row.table: row for row in own.rows}
    mine = {(row.table, row.row): row for row in own.rows}
    found = []
    for row in reported.rows:
        like = tables.get(row.table)
        if like is None:
            raise InputError(f"This study has no finished row of {row.table[:80]!r} to compare with.")
        differs = [key for key in sorted(like.protocol) if row.protocol.get(key) != like.protocol[key]]
        differs += [] if row.sizes == like.sizes else ["attacks or their prompts"]
        again = mine.get((row.table, row.row))
        differs += [] if again is None or row.settings == again.settings else ["settings of the eraser"]
        if differs:
            raise InputError(
                f"The row {row.row[:60]!r} of {row.table[:60]} cannot be compared: "
                f"{', '.join(differs)} differ."
            )
        measured = _in_words(again) if again else "not measured"
        found.append(Compared(row.table, row.row, _in_words(row), measured))
    return found


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


def _line(row: RowResult, measured: Sequence[Line]) -> Line:
    again = any(line.title == row.row for line in measured)
    line = row.line()
    line.title += " (reported)" if again else " (reported, not measured here)"
    line.is_reported = True
    return line


def _in_words(row: RowResult) -> str:
    line = row.line()
    back = share_of(line.shown(by_prompt(list(row.verdicts))))
    kept = "" if line.kept is None else f", kept {line.kept:.0%}"
    return f"{back}{kept}, seeds {', '.join(map(str, row.seeds))}"


def as_markdown(rows: Sequence[Compared]) -> str:
    """The comparison as a table."""
    return markdown(("", "", "reported: worst by prompt", "measured here"), rows)
