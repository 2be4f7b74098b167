"""A study as one page: sortable tables, and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from .._util.files import write_text_atomically
from ..report.pages import SORT, resource
from . import pace, space
from .lines import Line
from .plots import plots_of
from .table import Entry, table_of


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
    text = pages.from_string(template).render(
        title=name,
        lead="Prompts that show the concept under each attack, and images that are right after erasing.",
        tables=[table_of(table, lines) for table, lines in tables.items()],
        plots=[plots_of(lines) for lines in tables.values()],
        more=[_more(lines) for lines in tables.values()],
        notes=space.predictions(tables),
        missing=missing,
        sort=Markup(resource(SORT)),  # noqa: S704  (our own file)
        versions=_made_with(tables),
    )
    write_text_atomically(out, text)


def _made_with(tables: Mapping[str, Sequence[Line]]) -> list[str]:
    """Versions and hardware with which rows were measured, each once."""
    lines = [line for each in tables.values() for line in each]
    every = [found for line in lines for found in line.evaluations]
    told = [
        ", ".join(f"{package} {version}" for package, version in found.versions.items())
        + (f" on {found.hardware}" if found.hardware else "")
        for found in every
    ]
    return [f"Measured with {each}." for each in dict.fromkeys(told)]


class More(NamedTuple):
    """A table beside the main one."""

    lead: str
    head: Sequence[str]
    rows: Sequence[Sequence[Entry]]


def _more(lines: Sequence[Line]) -> list[More]:
    found = [
        More("Least seconds of erasing, over the settings of each method.", pace.HEAD, pace.pace_rows(lines)),
        More(
            "Samples on which erasers trained, in the space of the concept; first prompts of the concept, "
            "and random tokens.",
            space.HEAD,
            space.space_rows(lines),
        ),
    ]
    return [each for each in found if each.rows]
