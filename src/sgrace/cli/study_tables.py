"""``sgrace study table | best | report | results | submit``: what the finished cells of a study say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._util.errors import InputError
from .._util.files import new_file
from .options import FILE

if TYPE_CHECKING:
    from ..study import Store
    from ..study.lines import Line

STUDY_FILE = click.argument("file", type=FILE)
OUT = click.option(
    "-o", "--out", required=True, help="Folder or URL (s3://...) of the study's cells; studies may share it."
)


@click.command()
@STUDY_FILE
@OUT
@click.option("--against", metavar="ROW", help="Compare every row with this one on the same prompts.")
def table(file: Path, out: str, against: str | None) -> None:
    """Print the finished rows of FILE as Markdown tables, and which are missing."""
    from ..study import pace, read_study, space  # noqa: PLC0415
    from ..study.cells import scores_of  # noqa: PLC0415
    from ..study.lines import lines_of  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.table import markdown, table_of  # noqa: PLC0415

    store, scores = find_store(out), scores_of(read_study(file))
    tables = lines_of(scores, store)
    titles = {line.title for lines in tables.values() for line in lines}
    if against is not None and titles and against not in titles:
        raise InputError(
            f"No finished row is called {against[:60]!r}; there are {', '.join(sorted(titles))}."
        )
    for name, lines in tables.items():
        click.echo(f"{table_of(name, lines, against).markdown()}\n")
        for head, rows in ((pace.HEAD, pace.pace_rows(lines)), (space.HEAD, space.space_rows(lines))):
            if rows:
                click.echo(f"{markdown(head, [[entry.text for entry in row] for row in rows])}\n")
    for sentence in space.predictions(line for lines in tables.values() for line in lines):
        click.echo(f"{sentence}\n")
    missing = [cell.title for cell in scores if not store.is_finished(cell)]
    if missing:
        click.echo(f"Missing: {'; '.join(missing)}.")


@click.command()
@STUDY_FILE
@OUT
def best(file: Path, out: str) -> None:
    """Print the best settings of each eraser in FILE over all its concepts, and what the search took.

    The score is the harmonic mean of what is erased and what is kept, as parts of the shares before.
    """
    from ..study import read_study  # noqa: PLC0415
    from ..study.cells import scores_of  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.tuning import best_of  # noqa: PLC0415

    click.echo(best_of(scores_of(read_study(file)), find_store(out)))


@click.command()
@STUDY_FILE
@OUT
@click.option("--page", required=True, type=FILE, help="New HTML file, which needs no other file.")
@click.option(
    "--with",
    "others",
    multiple=True,
    type=FILE,
    help="Results of others, which stand beside those measured here, marked. May be given again.",
)
def report(file: Path, out: str, page: Path, others: tuple[Path, ...]) -> None:
    """Write the finished rows of FILE as a page with sortable tables and a plot.

    Results of others are checked as `submit` checks them.
    """
    from ..study import read_study  # noqa: PLC0415
    from ..study.cells import scores_of  # noqa: PLC0415
    from ..study.lines import lines_of  # noqa: PLC0415
    from ..study.page import write_page  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.results import read_results, with_reported  # noqa: PLC0415

    study_file = read_study(file)
    store, scores = find_store(out), scores_of(study_file)
    missing = [cell.title for cell in scores if not store.is_finished(cell)]
    tables = with_reported(lines_of(scores, store), [read_results(other) for other in others])
    with new_file(page) as partial:
        write_page(study_file.name, tables, missing, partial)
    click.echo(f"Report: {page}")


@click.command()
@STUDY_FILE
@OUT
@click.option("--to", "target", required=True, type=FILE, help="New JSON file.")
def results(file: Path, out: str, target: Path) -> None:
    """Write the finished rows of FILE as one file for others, with verdicts, protocol and a digest."""
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.results import results_of, write_results  # noqa: PLC0415

    with new_file(target) as partial:
        write_results(results_of(*_finished(file, find_store(out))), partial)
    click.echo(f"Results: {target}")


@click.command()
@click.argument("reported", type=FILE)
@STUDY_FILE
@OUT
def submit(reported: Path, file: Path, out: str) -> None:
    """Check the results REPORTED by somebody else, and print them beside those measured here by FILE.

    Results with another schema, digest, model, detector or protocol are refused.
    """
    from ..study.place import find_store  # noqa: PLC0415
    from ..study.results import as_markdown, compared, read_results, results_of  # noqa: PLC0415

    theirs = read_results(reported)
    own = results_of(*_finished(file, find_store(out)))
    click.echo(as_markdown(compared(theirs, own)))


def _finished(file: Path, store: Store) -> tuple[str, dict[str, list[Line]]]:
    """Name of a study, and its finished rows by table."""
    from ..study import read_study  # noqa: PLC0415
    from ..study.cells import scores_of  # noqa: PLC0415
    from ..study.lines import lines_of  # noqa: PLC0415

    found = read_study(file)
    return found.name, lines_of(scores_of(found), store)
