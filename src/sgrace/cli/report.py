"""``sgrace report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .._util.errors import InputError
from .options import FILE, JSON, examples

EPILOG = examples(
    "sgrace report evaluation",
    "sgrace report evaluation_uce evaluation_esd evaluation_sgrace -o comparison.html",
)


@click.command(epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, type=FILE)
@click.option(
    "-o",
    "--out",
    type=FILE,
    help="The page of several evaluations; comparison.html by default. The page of one lies in its folder.",
)
@JSON
def report(*, folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write the page of one evaluation anew, or compare several on one page.

    FOLDERS are those that `sgrace evaluate` wrote. Several must be of the same concept, prompts, seeds,
    suite, attacks and detector, on the same model: others are refused, with what differs.
    """
    from ..report import write_comparison, write_report  # noqa: PLC0415  (torch takes seconds to import)
    from ..report.comparison import evaluation_in  # noqa: PLC0415
    from ..report.sentence import summary  # noqa: PLC0415

    if len(folders) == 1 and out is not None:
        raise InputError("One evaluation has its page in its own folder; --out is for several.")
    sentences = {str(folder): str(summary(evaluation_in(folder))) for folder in folders}
    if len(folders) == 1:
        page = write_report(folders[0])
    else:
        page = write_comparison(folders, out or Path("comparison.html"))
    if as_json:
        click.echo(json.dumps({"report": str(page), "evaluations": sentences}))
        return
    lines = (
        sentences.values() if len(folders) == 1 else (f"{name}: {said}" for name, said in sentences.items())
    )
    click.echo("\n".join([*lines, f"Report: {page}"]))
