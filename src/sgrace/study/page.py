"""A study as one page: sortable tables, and what is kept against what is brought back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import jinja2
from markupsafe import Markup

from .._util.files import write_text_atomically
from .._util.provenance import versions
from ..report.pages import SORT, resource
from .table import REFERENCES, Line, by_prompt, table_of

#: The plot's area: left, width, bottom, height.
LEFT, WIDTH, BOTTOM, HEIGHT = 50.0, 410.0, 280.0, 260.0
#: Distance of labels beside the plot, one under the other.
LABEL = 14.0


class Dot(NamedTuple):
    """A row in the plot, with the height of its label in the column beside it, and whose row it is."""

    title: str
    x: float
    y: float
    label_y: float
    kind: Literal["", "reference", "reported"]


def write_page(name: str, tables: Mapping[str, Sequence[Line]], missing: Sequence[str], out: Path) -> None:
    """Write the page of a study; it needs no other file.

    Args:
        name: of the study.
        tables: rows by the name of their table.
        missing: titles of rows that are not finished.
        out: the file.
    """
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    known = ", ".join(f"{package} {version}" for package, version in versions().items())
    text = pages.from_string(template).render(
        title=name,
        lead="Prompts that show the concept under each attack, and images that are right after erasing.",
        tables=[table_of(table, lines) for table, lines in tables.items()],
        plots=[dots_of(lines) for lines in tables.values()],
        missing=missing,
        sort=Markup(resource(SORT)),  # noqa: S704  (our own file)
        versions=f"Made with {known}.",
    )
    write_text_atomically(out, text)


def dots_of(lines: Sequence[Line]) -> list[Dot]:
    """Where the plot has each row; none where nothing says what is kept."""
    places = []
    for line in lines:
        if line.kept is not None:
            back = line.shown(by_prompt(list(line.verdicts[0]))).double().mean().item()
            places.append((line, LEFT + WIDTH * line.kept, BOTTOM - HEIGHT * back))
    places.sort(key=lambda place: place[2])
    dots = []
    below = 0.0  # the last label
    for line, x, y in places:
        below = max(y + 4, below + LABEL)
        dots.append(Dot(line.title, x, y, below, _kind(line)))
    return dots


def _kind(line: Line) -> Literal["", "reference", "reported"]:
    if line.is_reported:
        return "reported"
    return "reference" if line.title in REFERENCES else ""
