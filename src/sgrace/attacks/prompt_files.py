"""Prompt tables from files: CSV, TSV, ``;``-separated, JSON, JSON lines, or one prompt a line."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from .._util.errors import InputError
from .._util.text import LIST_MARK, has_control, lines_of, read_text, visible
from ..concept import folded
from ._tables import Row, Table, read_table
from .scene import Prompt

MAX_FILE_BYTES = 20_000_000
MAX_PROMPT = 2_000
MAX_GUIDANCE = 1_000
MAX_SEED = 2**64 - 1  # what a random generator takes
WHAT = "a text file of prompts"

#: Columns of prompts, folded. One of the second line counts only where there is none of the first.
PROMPT_COLUMNS = (
    ("prompt", "prompts", "adv prompt", "adversarial prompt", "sensitive prompt"),
    ("caption", "captions", "text", "texts"),
)
#: Columns of seeds and of guidance scales, folded; the first that is there counts.
SEED_COLUMNS = ("seed", "evaluation seed", "sd seed")
GUIDANCE_COLUMNS = ("guidance", "guidance scale", "evaluation guidance", "sd guidance scale")

#: Lines that prompts do not have: markup, settings, statements, records separated by colons or bars.
_FOREIGN_LINE = re.compile(
    r"""
    \s{2,} | \t                                            # indented below a line that is not
    | .*(?:[;{}\\]|[(\[]|=>)\s*$                           # open or closed brackets and statements at the end
    | [)\]}]                                               # a closing bracket first
    | (?:\#|//|/\*|\*/|<!|<\?|</?[a-z]+[ >]|@\w+\(?|```)   # comments, markup, decorators
    | \|.*\|\s*$                                           # a row of a Markdown table
    | [.~]?/\S*$                                           # a path
    | \[[\w.\-" ]+\]\s*$                                   # a section of settings
    | (?:import|from\s\S+\simport|def|class|return|raise|export|const|let|var|function|package|using)
      \s+[\w.{*(]+[\s(:;.]*                                # statements of programs
    | [\w.\-"']+\s*:?=\s*\S                                # an assignment
    | (?:-\s+)?[\w.\-"']+:(?:\s+\S+)?\s*$                  # a key of YAML
    | [^\s:]*(?::[^\s:]*){3}                               # a record separated by colons
    """,
    re.VERBOSE,
)
_FOREIGN_SHARE = 1 / 3
#: A short file of these kinds looks like prompts.
_FOREIGN_SUFFIXES = frozenset(
    {".cfg", ".htm", ".html", ".ini", ".py", ".sh", ".toml", ".xml", ".yaml", ".yml"}
)
NAME_ONE = "Name one with --prompt-column."
_WAY_OUT = "give one prompt a line, CSV, TSV, JSON or JSON lines"
_FOREIGN_START = re.compile(r"""\s*(?:\#[!\s]|//|/\*|<[!?]|\"{3}|'{3}|---\s)""")


def read_prompts(path: Path, *, prompt_column: str | None = None) -> list[Prompt]:
    """Read a prompt table by its content.

    Rows without a prompt are skipped. A prompt without a seed takes its row's number, from 0, as the seed.

    Args:
        path: the file.
        prompt_column: name of the column of prompts; one of :data:`PROMPT_COLUMNS` is found automatically.

    Raises:
        InputError: no readable text file, no prompt or column of prompts in it, or a row that is none.
    """
    if path.suffix.lower() in _FOREIGN_SUFFIXES:
        raise InputError(f"{path.name} is a file of code, settings or markup; {_WAY_OUT}.")
    text = read_text(path, WHAT, MAX_FILE_BYTES)
    is_table = path.suffix.lower() in {".csv", ".tsv"}
    prompts = parse_prompts(text, path.name, prompt_column=prompt_column, is_table=is_table)
    if not prompts:
        raise InputError(f"{path} holds no prompt.")
    return prompts


def parse_prompts(
    text: str, name: str, *, prompt_column: str | None = None, is_table: bool = False
) -> list[Prompt]:
    """The prompts of a text; see :func:`read_prompts`.

    Args:
        text: of a table, or one prompt a line.
        name: what the text is called in errors.
        prompt_column: name of the column of prompts.
        is_table: whether it must have columns.

    Raises:
        InputError: there is no column of prompts, or a row that is none.
    """
    wanted = frozenset([folded(prompt_column)]) if prompt_column else frozenset().union(*PROMPT_COLUMNS)
    table = read_table(text, name, wanted, expected=is_table)
    if table is None and prompt_column:
        raise InputError(f"{name} has no columns, so none is `{prompt_column}`.")
    table = table or _one_a_line(text, name)
    return _prompts(table, name, prompt_column) if table.columns else []


def _one_a_line(text: str, name: str) -> Table:
    lines = lines_of(textwrap.dedent(text))
    filled = [line for line in lines if line.strip()]
    foreign = sum(bool(_FOREIGN_LINE.match(line)) for line in filled)
    if _FOREIGN_START.match(text) or foreign > max(1, len(filled) * _FOREIGN_SHARE):
        raise InputError(f"{name} looks like code, settings or markup, not like a prompt table; {_WAY_OUT}.")
    if filled and all(LIST_MARK.match(line) for line in filled):
        lines = [LIST_MARK.sub("", line) for line in lines]
    rows = [Row(f"line {number}", {"prompt": line}) for number, line in enumerate(lines, 1)]
    return Table(["prompt"], rows)


def _prompts(table: Table, name: str, prompt_column: str | None) -> list[Prompt]:
    own = _prompt_column(table.columns, name, prompt_column)
    seed = _first_of(SEED_COLUMNS, table.columns, name)
    guidance = _first_of(GUIDANCE_COLUMNS, table.columns, name)
    prompts = []
    for number, row in enumerate(table.rows):
        where = f"{row.where[0].upper()}{row.where[1:]} of {name}"
        if own not in row.cells:  # an object of JSON with other keys than the rest
            raise InputError(f"{where} has no `{own}`; it has {', '.join(f'`{key}`' for key in row.cells)}.")
        if text := _text(row.cells[own], where, own):
            own_seed = _seed(row.cells.get(seed), where, number)
            prompts.append(Prompt(text, own_seed, _guidance(row.cells.get(guidance), where)))
    return prompts


def _prompt_column(columns: Sequence[str], name: str, prompt_column: str | None) -> str:
    tiers = [(folded(prompt_column),)] if prompt_column else PROMPT_COLUMNS
    matching = [[column for column in columns if folded(column) in tier] for tier in tiers]
    found = next((tier for tier in matching if tier), [])
    told = ", ".join(f"`{column}`" for column in columns if column)[:400] or "none"
    if not found:
        missing = f"no column `{prompt_column}`" if prompt_column else "no column of prompts"
        raise InputError(f"{name} has {missing}; its columns are {told}. {NAME_ONE}")
    if len(found) > 1:
        several = ", ".join(f"`{column}`" for column in found)
        raise InputError(f"{name} has several columns of prompts: {several}. {NAME_ONE}")
    return folded(found[0])


def _first_of(names: Sequence[str], columns: Sequence[str], name: str) -> str:
    """The first of some columns that a table has; if it has none, a name that no cell has."""
    present = [folded(column) for column in columns]
    found = next((column for column in names if column in present), "\0")
    if present.count(found) > 1:
        raise InputError(f"{name} has several columns `{found}`; keep one.")
    return found


def _text(cell: object, where: str, column: str) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise InputError(f"{where}: `{column}` is {str(cell)[:40]!r}, not a text.")
    text = visible(cell)  # a formula of a spreadsheet stays text: nothing runs it
    if has_control(text) or len(text) > MAX_PROMPT:
        rule = f"a prompt has at most {MAX_PROMPT:,} printable characters"
        raise InputError(f"{where}: {rule}; this one has {len(text):,}: {text[:40]!r}...")
    return text


def _seed(cell: object, where: str, number: int) -> int:
    text = "" if cell is None else str(cell).strip()
    if not text:
        return number
    whole = re.fullmatch(r"([0-9]{1,20})(?:\.0*)?", text)
    if not whole or int(whole[1]) > MAX_SEED:
        rule = "a seed is a whole number from 0 to 2**64 - 1, or empty"
        raise InputError(f"{where}: {rule}, not {text[:40]!r}.")
    return int(whole[1])


def _guidance(cell: object, where: str) -> float | None:
    text = "" if cell is None else str(cell).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_GUIDANCE:
        rule = f"a guidance scale is a number from 0 to {MAX_GUIDANCE:,}, or empty"
        raise InputError(f"{where}: {rule}, not {text[:40]!r}.")
    return value
