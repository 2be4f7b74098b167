"""The published layout of word files: two lists, told apart by a blank line or by headings."""

from __future__ import annotations

import re
from typing import NamedTuple

from .._util.errors import InputError
from .._util.text import LIST_MARK, lines_of, visible
from ..concept import folded
from .spelling import RULE, fault

LAYOUT = "related words, a blank line, unrelated words; or the headings `related:` and `unrelated:`"

_HEADING = re.compile(  # "related:", "Unrelated words: dog, tree", "## Related", "[unrelated]"
    r"[#\s\[*]*\b(un-?\s?related|related)(?:\s+(?:words?|concepts?|terms?))?[\]*\s]*(?::[\]*\s]*(.*))?$",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[,;\t|，、；]")  # noqa: RUF001  (also those of Chinese and Japanese)
_AROUND = " .:!?\"'`*“”‘’«»…"  # noqa: RUF001  (quotes of word processors)


class Words(NamedTuple):
    """The two lists of a word file."""

    related: tuple[str, ...]
    unrelated: tuple[str, ...]


def parse_text(text: str, name: str) -> Words:
    """Related and unrelated words, one a line or several separated by commas.

    Between the lists stands a blank line, or one of dashes. Headings may name them instead, in any order.
    Marks of lists (``-``, ``1.``) and lines that start with ``#`` are left out. Words become lower case.

    Args:
        text: of the file.
        name: of the file, for errors.

    Raises:
        InputError: not two lists, or a line that holds no words.
    """
    lines = lines_of(text)
    return _by_heading(lines, name) or _by_blank_line(lines, name)


def text_of(words: Words) -> str:
    """The lists in this layout."""
    return f"{', '.join(words.related)}\n\n{', '.join(words.unrelated)}\n"


def _by_heading(lines: list[str], name: str) -> Words | None:
    """The lists under their headings, or None where there are no headings."""
    lists: dict[str, list[str]] = {}
    current: list[str] | None = None
    above = 0  # the first line with words above all headings
    for number, line in enumerate(lines, 1):
        rest = line
        if heading := _HEADING.fullmatch(LIST_MARK.sub("", visible(line))):
            current = lists.setdefault("unrelated" if heading[1].lower().startswith("un") else "related", [])
            rest = heading[2] or ""
        words = _words(rest, f"Line {number} of {name}")
        if current is not None:
            current += words
        elif words and not above:
            above = number
    if not lists:
        return None
    if above:
        raise InputError(f"Line {above} of {name} stands above the first heading; it must hold {LAYOUT}.")
    if missing := [heading for heading in ("related", "unrelated") if not lists.get(heading)]:
        raise InputError(f"{name} has no words under `{missing[0]}:`; it must hold {LAYOUT}.")
    return Words(tuple(lists["related"]), tuple(lists["unrelated"]))


def _by_blank_line(lines: list[str], name: str) -> Words:
    blocks: list[list[str]] = []
    is_open = False
    for number, line in enumerate(lines, 1):
        words = _words(line, f"Line {number} of {name}")
        if words and not is_open:
            blocks.append([])
        if words:
            blocks[-1] += words
        # a comment neither opens nor closes a block
        is_open = bool(words) or (is_open and visible(line).startswith("#"))
    if len(blocks) != 2:
        raise InputError(f"{name} has {len(blocks)} blocks of words, not 2; it must hold {LAYOUT}.")
    return Words(tuple(blocks[0]), tuple(blocks[1]))


def _words(line: str, where: str) -> list[str]:
    """The words of one line; none where it is blank, a line of dashes or a comment."""
    shown = visible(line)
    if shown.startswith("#") or not any(c.isalnum() for c in shown):
        return []
    if shown.endswith(":"):
        raise InputError(f"{where} is an unknown heading, {shown[:40]!r}; use `related:` and `unrelated:`.")
    pieces = [LIST_MARK.sub("", visible(piece)) for piece in _SEPARATORS.split(line)]
    words = [folded(piece.strip(_AROUND)) for piece in pieces]
    for word in filter(None, words):
        if fault(word):
            raise InputError(f"{where} holds {word[:40]!r}, which is no word: {RULE}.")
    return [word for word in words if word]
