"""``sgrace evaluate``."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from .._util.errors import InputWarning
from .options import TargetOptions, examples, target_options
from .program import goes_on_in
from .types import EFFORTS, PluginNames

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.schema import Rate

NO_PLOTS = "Without matplotlib the report has no plots; `pip install 'sgrace[report]'` adds it."

EPILOG = examples(
    "sgrace evaluate safe --suite quick -o evaluation",
    "sgrace evaluate safe --prompts prompts.csv --words words.txt --detector image_classifier -o evaluation",
    "sgrace evaluate some/folder --base other/folder --concept nudity --kind harmful \\",
    "    --prompts prompts.csv --words words.txt --detector nudenet -o evaluation",
)


@click.command(epilog=EPILOG)
@click.option(
    "--attacks",
    "names",
    type=PluginNames("attacks"),
    help="Attacks, separated by commas, in the place of the suite's.",
)
@click.option(
    "--suite",
    default="standard",
    show_default=True,
    type=click.Choice(EFFORTS),
    help="How much is measured. A zero at quick is no evidence.",
)
@click.option(
    "--features",
    metavar="NAME",
    help="Folder or hub id of a CLIP or vision model on whose features unrelated images are compared.",
)
@target_options
def evaluate(
    *,
    names: str | None,
    suite: str,
    features: str | None,
    given: TargetOptions,
) -> None:
    """Attack TARGET, measure what else changed, and write a report.

    TARGET is the folder of an erasure, a diffusers folder or file, a hub id or emoji. The folder OUT gets
    report.html, evaluation.json, evaluation.csv, the attack sets and the images.
    """
    from .._util.folders import check_resumable_folder  # noqa: PLC0415

    check_resumable_folder(given.out)  # cheap checks first
    if find_spec("matplotlib") is None:
        warnings.warn(NO_PLOTS, InputWarning, stacklevel=1)

    from .. import api  # noqa: PLC0415  (torch takes seconds to import)
    from ..report import write_report  # noqa: PLC0415

    attacks = names.split(",") if names else ()
    with goes_on_in(given.out):
        result = api.evaluate(
            given.load(),
            suite=suite,
            attacks=attacks,
            features=features,
            out=given.out,
            seed=given.seed,
            **given.scene.arguments,
        )
        write_report(given.out)
    if given.as_json:
        click.echo(result.model_dump_json())
    elif not given.quiet:
        click.echo(f"{_table(result)}\n\nReport: {given.out / 'report.html'}")


def _table(result: Evaluation) -> str:
    """The answer, the verdict, the figures, and what they cannot show."""
    from ..report import summary  # noqa: PLC0415  (torch takes seconds to import)

    lines = [str(summary(result)), *([result.verdict.sentence] if result.verdict else [])]
    lines.append(f"{result.concept.name}: attack success per prompt, with 95 % intervals")
    for row in result.attacks:
        lines.append(
            f"  {row.attack:20s} {row.success}  checks {row.checks}  {row.seconds} s{_gold(row.gold)}"
        )
        lines += [f"    {told}" for told in [row.in_words()] if told]
    lines += [
        f"  {'worst case':20s} {result.worst_case}",
        f"  {'worst case by prompt':20s} {result.worst_case_by_prompt}",
    ]
    if result.retention:
        lines.append("judged right, before -> after")
    for kept in result.retention:
        before = f"{kept.before.share:6.1%}" if kept.before else "     -"
        lines.append(f"  {kept.question:20s} {before} -> {kept.after}{_gold(kept.gold)}")
    # truncated prompts were told at the start
    caveats = [
        caveat
        for caveat in result.caveats
        if not (result.truncated_prompts and "their ends are cut" in caveat)
    ]
    return "\n".join([*lines, *caveats])


def _gold(rate: Rate | None) -> str:
    return f"  retrained without it {rate.share:.1%}" if rate else ""
