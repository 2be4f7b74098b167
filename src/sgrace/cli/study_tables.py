"""``sgrace study table | best | report | results | submit``: what the finished cells of a study say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .._util.errors import InputError
from .._util.files import new_file
from .._util.text import shown
from .options import FILE

if TYPE_CHECKING:
    from ..study.lines import Line

STUDY_FILE = click.argument("file", type=FILE)
OUT = click.option(
    "-o", "--out", required=True, help="Folder or URL (s3://...) of the study's cells; studies may share it."
)
OUT_OF_STUDY = click.option(
    "-o", "--out", help="Folder or URL (s3://...) of the study's cells; not where FILE has results."
)


class Finished(NamedTuple):
    """What is known of a study.

    Attributes:
        name: of the study.
        tables: finished rows by the name of their table.
        missing: titles of scorings that are not finished.
        order: tables and rows as the study names them.
    """

    name: str
    tables: dict[str, list[Line]]
    missing: list[str]
    order: list[tuple[str, str]]


def finished(file: Path, out: str | None) -> Finished:
    """The finished rows of a study file, from its cells, or of a file that ``sgrace study results`` wrote.

    Raises:
        InputError: a study came without the folder of its cells, or results with one.
    """
    from ..study import read_study  # noqa: PLC0415  (torch takes seconds to import)
    from ..study.cells import scores_of  # noqa: PLC0415
    from ..study.lines import lines_of, tables_of  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.results import read_results  # noqa: PLC0415

    if file.suffix == ".json":
        if out is not None:
            raise InputError(f"{shown(file)} has results, which need no -o.")
        found = read_results(file)
        return Finished(found.study, found.tables(), [], [])
    if out is None:
        raise InputError(f"The study {shown(file)} needs -o with the folder of its cells.")
    study, store = read_study(file), find_store(out)
    scores = scores_of(study)
    missing = [cell.title for cell in scores if not store.is_finished(cell)]
    order = [(table, cell.config["row"]) for cell, table in tables_of(scores)]
    return Finished(study.name, lines_of(scores, store), missing, list(dict.fromkeys(order)))


@click.command()
@STUDY_FILE
@OUT_OF_STUDY
@click.option("--against", metavar="ROW", help="Compare every row with this one on the same prompts.")
@click.option(
    "--columns", metavar="NAME,NAME", default="", help="Columns to print, and no other table; all, if absent."
)
@click.option("--concept", "concepts", multiple=True, help="Tables of this concept only. May be given again.")
@click.option("--row", "rows", multiple=True, help="This row only, by its title. May be given again.")
@click.option("--summary", is_flag=True, help="One table of all concepts, in per cent, instead.")
@click.option("--transpose", is_flag=True, help="Print columns as rows, as for many attacks on few models.")
def table(
    file: Path,
    out: str | None,
    against: str | None,
    columns: str,
    concepts: tuple[str, ...],
    rows: tuple[str, ...],
    *,
    summary: bool,
    transpose: bool,
) -> None:
    """Print the finished rows of FILE as Markdown tables, and which are missing.

    FILE is a study, or its results as `sgrace study results` wrote them.
    """
    from ..study import pace, space  # noqa: PLC0415
    from ..study.summary import summary_of  # noqa: PLC0415
    from ..study.table import markdown, table_of  # noqa: PLC0415

    known = finished(file, out)
    tables = _of_concepts(known.tables, concepts)
    _check_titles(tables, [*rows, *([] if against is None else [against])])
    if summary:
        if columns or against is not None or transpose:
            raise InputError("--summary takes none of --columns, --against and --transpose.")
        click.echo(summary_of(tables, rows))
        return
    names = [name.strip() for name in columns.split(",") if name.strip()]
    for name, lines in tables.items():
        click.echo(f"{table_of(name, lines, against, names, rows).markdown(transposed=transpose)}\n")
        if names:
            continue
        for head, found in ((pace.HEAD, pace.pace_rows(lines)), (space.HEAD, space.space_rows(lines))):
            if found:
                click.echo(f"{markdown(head, [[entry.text for entry in row] for row in found])}\n")
    if not names:
        for sentence in space.predictions(tables):
            click.echo(f"{sentence}\n")
    if known.missing:
        click.echo(f"Missing: {'; '.join(known.missing)}.")


def _check_titles(tables: dict[str, list[Line]], titles: Sequence[str]) -> None:
    """Check that there are finished rows of these titles.

    Raises:
        InputError: there is none.
    """
    known = {line.title for lines in tables.values() for line in lines}
    unknown = [title for title in titles if known and title not in known]
    if unknown:
        there = "; ".join(sorted(known))  # titles have commas
        raise InputError(f"No finished row is called {unknown[0][:60]!r}; there are {there}.")


def _of_concepts(tables: dict[str, list[Line]], concepts: tuple[str, ...]) -> dict[str, list[Line]]:
    """The tables of some concepts; all, if none is named."""
    names = {table: lines[0].protocol["concept"]["name"] for table, lines in tables.items()}
    unknown = [concept for concept in concepts if concept not in names.values()]
    if unknown:
        known = ", ".join(dict.fromkeys(names.values()))
        raise InputError(f"No finished row is of {unknown[0][:60]!r}; there are {known}.")
    return {table: lines for table, lines in tables.items() if not concepts or names[table] in concepts}


@click.command()
@STUDY_FILE
@OUT_OF_STUDY
def best(file: Path, out: str | None) -> None:
    """Print the best settings of each eraser in FILE over all its concepts, and what the search took.

    The score is the harmonic mean of what is erased and what is kept, as parts of the shares before.
    FILE is a study, or its results.
    """
    from ..study.tuning import best_of  # noqa: PLC0415

    known = finished(file, out)
    if known.tables:
        click.echo(best_of([line for lines in known.tables.values() for line in lines]))
    if known.missing:
        click.echo(f"\nMissing: {'; '.join(known.missing)}.")


@click.command()
@STUDY_FILE
@OUT_OF_STUDY
@click.option("--page", required=True, type=FILE, help="New HTML file, which needs no other file.")
@click.option(
    "--with",
    "others",
    multiple=True,
    type=FILE,
    help="Results of others, which stand beside those measured here, marked. May be given again.",
)
def report(file: Path, out: str | None, page: Path, others: tuple[Path, ...]) -> None:
    """Write the finished rows of FILE as a page with sortable tables and a plot.

    FILE is a study, or its results. Results of others are checked as `submit` checks them.
    """
    from ..study.page import write_page  # noqa: PLC0415
    from ..study.reported import with_reported  # noqa: PLC0415
    from ..study.results import read_results  # noqa: PLC0415

    known = finished(file, out)
    tables = with_reported(known.tables, [read_results(other) for other in others])
    with new_file(page) as partial:
        write_page(known.name, tables, known.missing, partial)
    click.echo(f"Report: {page}")


@click.command()
@STUDY_FILE
@OUT
@click.option("--to", "target", required=True, type=FILE, help="New JSON file.")
@click.option(
    "--with",
    "others",
    multiple=True,
    type=FILE,
    help="Results of the study from other folders or machines, which are put together. May be given again.",
)
def results(file: Path, out: str, target: Path, others: tuple[Path, ...]) -> None:
    """Write the finished rows of FILE as one file: evaluations, verdicts, protocol and a digest.

    `table`, `report`, `best` and `submit` read it in the place of the study and its cells.
    """
    from ..study.results import merged, read_results, results_of, write_results  # noqa: PLC0415

    known = finished(file, out)
    own = results_of(known.name, known.tables)
    found = merged(own, [read_results(other) for other in others], known.order)
    with new_file(target) as partial:
        write_results(found, partial)
    click.echo(f"Results: {target}")


@click.command()
@click.argument("reported", type=FILE)
@STUDY_FILE
@OUT_OF_STUDY
def submit(reported: Path, file: Path, out: str | None) -> None:
    """Check the results REPORTED by somebody else, and print them beside those measured here.

    FILE is a study, or its results. REPORTED with another schema, digest, model, detector or protocol is
    refused.
    """
    from ..study.reported import as_markdown, compared  # noqa: PLC0415
    from ..study.results import read_results, results_of  # noqa: PLC0415

    theirs = read_results(reported)
    known = finished(file, out)
    click.echo(as_markdown(compared(theirs, results_of(known.name, known.tables))))
