"""How objects show themselves in a notebook: a card of facts, shares and images, without a style sheet.

A notebook may be light or dark, and may drop scripts and styles: a card takes its colours from the text
around it. Everything that is not a number is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

FRAME = "border:1px solid #8886;border-radius:8px;padding:.6em 1em;margin:.3em 0;max-width:52em"
CELL = "text-align:left;vertical-align:top;padding:.15em 1em .15em 0;border:0;background:none"
RAIL = "display:inline-block;position:relative;width:10em;height:.6em;background:#8883;border-radius:3px"
PART = "position:absolute;top:0;bottom:0;background:#3a719f;border-radius:3px"
WHISKER = "position:absolute;top:45%;height:2px;background:currentColor"
IMAGE = "width:6em;border-radius:5px;margin:0 .3em 0 0;display:inline-block"
RED = "#d9534f"
SIZE = "font-size:.9em"
TABLE = "border-collapse:collapse;color:inherit;font-family:inherit"  # some notebooks set them for tables


class Counted(Protocol):
    """A share of counts."""

    @property
    def hits(self) -> int:
        """What was counted."""

    @property
    def n(self) -> int:
        """Of how many."""

    def as_dict(self) -> dict[str, float]:
        """``share``, ``low`` and ``high``."""


class Bar(NamedTuple):
    """A share with its interval, all in 0..1."""

    label: str
    share: float
    low: float
    high: float
    note: str = ""

    @classmethod
    def of(cls, label: str, counted: Counted) -> Self:
        """From counts."""
        known = counted.as_dict()
        note = f"{counted.hits} of {counted.n}"
        return cls(label, known["share"], known["low"], known["high"], note)


class Image(NamedTuple):
    """An image as a data address; a marked one has a red frame."""

    src: str
    alt: str
    marked: bool = False


def card(
    title: str,
    facts: Mapping[str, object],
    *,
    lead: str = "",
    bars: Sequence[Bar] = (),
    images: Sequence[Image] = (),
    notes: Sequence[str] = (),
) -> str:
    """HTML of an object.

    Args:
        title: what it is.
        facts: what is known of it, by name; empty ones are left out.
        lead: a sentence below the title.
        bars: shares.
        images: shown in a row.
        notes: sentences at the end.
    """
    parts = [f"<b>{_text(title)}</b>"]
    if lead:
        parts.append(f"<div>{_text(lead)}</div>")
    rows = [_row(name, _text(value)) for name, value in facts.items() if value not in {None, ""}]
    rows += [_row(bar.label, _bar(bar)) for bar in bars]
    if rows:
        parts.append(f'<table style="{TABLE};{SIZE}">{"".join(rows)}</table>')
    if images:
        parts.append(f"<div>{''.join(_image(image) for image in images)}</div>")
    parts += [f'<div style="{SIZE};opacity:.75">{_text(note)}</div>' for note in notes]
    return f'<div style="{FRAME}">{"".join(parts)}</div>'


def _text(value: object) -> str:
    return html.escape(str(value))


def _row(name: str, content: str) -> str:
    head = f'<td style="{CELL};opacity:.75">{_text(name)}</td>'
    return f'<tr style="background:none">{head}<td style="{CELL}">{content}</td></tr>'


def _bar(bar: Bar) -> str:
    filled = f'<span style="{PART};left:0;width:{100 * bar.share:.1f}%"></span>'
    width = 100 * (bar.high - bar.low)
    whisker = f'<span style="{WHISKER};left:{100 * bar.low:.1f}%;width:{width:.1f}%"></span>'
    figures = f"{100 * bar.share:.1f} % ({100 * bar.low:.0f} to {100 * bar.high:.0f} %)"
    return f'<span style="{RAIL}">{filled}{whisker}</span> {figures} {_text(bar.note)}'


def _image(image: Image) -> str:
    border = f"border:3px solid {RED if image.marked else '#8886'}"
    return f'<img src="{_text(image.src)}" alt="{_text(image.alt)}" style="{IMAGE};{border}">'
