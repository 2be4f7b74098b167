"""Tables by content: CSV, TSV, values separated by ``;``, JSON and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .._util.errors import InputError
from .._util.text import lines_of, visible
from ..concept import folded

DELIMITERS = (",", "\t", ";")  # where several fit, the first counts
#: Starts that only JSON has. Prompts may start with a bracket too: ``[church:0.5]``, ``{red|blue} church``.
_JSON_START = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\[{\]]|[\[{]\s*$)', re.MULTILINE)
_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d*)?\s*")


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        where: its place in the file, for errors: "row 3".
        cells: values by folded column name.
    """

    where: str
    cells: Mapping[str, object]


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: their names, as the file has them.
        rows: all rows that hold anything.
    """

    columns: Sequence[str]
    rows: Sequence[Row]


def read_table(text: str, name: str, known: frozenset[str], *, expected: bool) -> Table | None:
    """The table that a text holds, or None where it has no columns.

    Args:
        text: content of the file.
        name: of the file, for errors.
        known: folded names of columns. A first line that holds one of them is a header.
        expected: whether the file's name says that it is a table.

    Raises:
        InputError: broken JSON, or a row that does not fit the header.
    """
    if _JSON_START.match(text):
        return _json(text, name)
    headers = {delimiter: _header(text, delimiter) for delimiter in DELIMITERS}
    fitting = [d for d in DELIMITERS if any(folded(column) in known for column in headers[d])]
    if fitting:
        return _separated(text, name, max(fitting, key=lambda delimiter: len(headers[delimiter])))
    if text.startswith('"') and (table := _json_lines(text, name)):
        return table
    regular = [delimiter for delimiter in DELIMITERS if _is_regular(text, delimiter)]
    if regular or expected:  # no known column: its columns are all that an error needs
        return Table(max((headers[delimiter] for delimiter in regular or DELIMITERS), key=len), [])
    return None


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    # strict: a quote that is never closed would swallow the rest of the file
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)


def _header(text: str, delimiter: str) -> list[str]:
    """Cells of the first row that holds anything."""
    try:
        filled = (row for row in _records(text, delimiter) if any(cell.strip() for cell in row))
        first: list[str] = next(filled, [])
    except csv.Error:
        return []
    return [visible(cell) for cell in first]


def _is_regular(text: str, delimiter: str) -> bool:
    """Whether all rows have as many cells, and there are tabs between them or a column of numbers."""
    try:
        rows = [row for row in _records(text, delimiter) if any(cell.strip() for cell in row)]
    except csv.Error:
        return False
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    columns = zip(*rows[1:], strict=True)
    return delimiter == "\t" or any(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns)


def _separated(text: str, name: str, delimiter: str) -> Table:
    """Rows are counted as a spreadsheet does: the header is row 1."""
    columns: list[str] = []
    rows = []
    number = 0
    try:
        for number, record in enumerate(_records(text, delimiter), 1):
            if not any(cell.strip() for cell in record):
                continue
            if not columns:
                columns = [visible(cell) for cell in record]
                continue
            cells = _cells(record, columns, f"Row {number} of {name}", delimiter)
            rows.append(Row(f"row {number}", cells))
    except csv.Error as error:
        raise InputError(f"Row {number + 1} of {name} is broken ({error}); check its quotes.") from error
    return Table(columns, rows)


def _cells(record: list[str], columns: list[str], where: str, delimiter: str) -> dict[str, object]:
    surplus = record[len(columns) :]
    if len(record) < len(columns) or any(cell.strip() for cell in surplus):
        way_out = f"put quotes around a prompt that holds a {delimiter!r} or a line break"
        raise InputError(f"{where} has {len(record)} cells, its header {len(columns)}; {way_out}.")
    return {folded(column): cell for column, cell in zip(columns, record, strict=False)}


def _json(text: str, name: str) -> Table | None:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{name} is JSON of too many levels: not a prompt table.") from error
    except ValueError as error:
        table = _json_lines(text, name)
        if table is None:
            raise InputError(f"{name} looks like JSON, but is not ({error}): not a prompt table.") from error
        return table
    return _table(value, name)


def _json_lines(text: str, name: str) -> Table | None:
    """A table of one JSON value a line, or None where the first line is none."""
    values: list[Any] = []
    places: list[str] = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if not values or isinstance(values[0], str):  # prompts may start with a quote
                return None
            place = f"Line {number} of {name}"
            raise InputError(f"{place} is not JSON, but the lines above are ({error}).") from error
        places.append(f"line {number}")
    return _table(values, name, places)


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _table(value: Any, name: str, places: Sequence[str] = ()) -> Table:  # noqa: ANN401  (any JSON)
    """A list of texts, a list of objects, an object of lists, or one object."""
    if isinstance(value, dict):
        inner = list(value.values())
        if len(inner) == 1 and _is_list_of(dict, inner[0]):
            return _table(inner[0], name)  # {"data": [{...}, {...}]}
        if inner and all(isinstance(item, list | dict) for item in inner):
            value = _rows_of_columns(value, name)
        elif not any(isinstance(item, list | dict) for item in inner):
            value = [value]
    if _is_list_of(str, value):
        value = [{"prompt": item} for item in value]
    if not _is_list_of(dict, value):
        raise InputError(f"{name} is JSON, but no list of prompts, list of objects or object of lists.")
    columns = list(dict.fromkeys(key for item in value for key in item))
    places = places or [f"entry {number}" for number in range(1, len(value) + 1)]
    cells = [{folded(visible(key)): cell for key, cell in item.items()} for item in value]
    return Table(columns, [Row(where, row) for where, row in zip(places, cells, strict=True)])


def _rows_of_columns(columns: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows from lists by column, or from the objects by column that pandas writes."""
    lists = {key: list(c.values()) if isinstance(c, dict) else c for key, c in columns.items()}
    lengths = {key: len(column) for key, column in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} ({length})" for key, length in lengths.items())
        raise InputError(f"The columns of {name} have different lengths: {told}.")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
