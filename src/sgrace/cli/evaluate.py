"""``sgrace evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import unknown
from .common import JSON, load_scene_target, scene_arguments, scene_options, user_errors

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.schema import Rate


@click.command()
@click.argument("target")
@click.option("--attacks", "names", help="Attacks, by comma, in place of the suite's.")
@click.option("--suite", default="standard", show_default=True, help="quick, standard, or full.")
@click.option("--text-encoder", type=click.Path(path_type=Path), help="Text-encoder folder that replaces TARGET's own.")
@click.option("--unet", type=click.Path(path_type=Path), help="UNet folder that replaces TARGET's own.")
@click.option(
    "--features",
    help="Folder or hub id of a CLIP or vision model on whose features unrelated pictures are compared.",
)
@scene_options
@JSON
@user_errors
def evaluate(
    target: str,
    names: str | None,
    suite: str,
    text_encoder: Path | None,
    unet: Path | None,
    features: str | None,
    base: str | None,
    seed: int,
    out: Path,
    *,
    as_json: bool,
    **scene_given: Any,  # noqa: ANN401  (see scene_arguments)
) -> None:
    """Attack and measure TARGET (an erasure's folder, a diffusers folder, a hub id or `emoji`), and write the report."""
    attacks = [name.strip() for name in names.split(",")] if names else []
    for name in attacks:
        registry.load("attacks", name)

    from .. import api  # noqa: PLC0415  (torch takes seconds to import)
    from ..evaluation.suites import SUITES  # noqa: PLC0415
    from ..report import write_report  # noqa: PLC0415

    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    given = scene_arguments(**scene_given)
    loaded = load_scene_target(target, base=base, text_encoder=text_encoder, unet=unet, quiet=as_json)
    result = api.evaluate(loaded, suite=suite, attacks=attacks, features=features, out=out, seed=seed, **given)
    write_report(out)
    click.echo(result.model_dump_json() if as_json else _table(result) + f"\n\nReport: {out}/report.html")


def _table(result: Evaluation) -> str:
    lines = [result.verdict.sentence] if result.verdict else []
    lines += [f"{result.concept.name}: attack success per prompt, with 95 % intervals"]
    lines += [f"  {row.attack:20s} {row.success}  checks {row.checks}  {row.seconds} s{_gold(row.gold)}" for row in result.attacks]
    lines += [
        f"  {'worst case':20s} {result.worst_case}",
        f"  {'worst case by prompt':20s} {result.worst_case_by_prompt}",
    ]
    if result.retention:
        lines.append("judged right, before -> after")
    for kept in result.retention:
        before = f"{kept.before.share:6.1%}" if kept.before else "     -"
        lines.append(f"  {kept.question:20s} {before} -> {kept.after}{_gold(kept.gold)}")
    return "\n".join([*lines, *result.caveats])


def _gold(rate: Rate | None) -> str:
    return f"  retrained without it {rate.share:.1%}" if rate else ""
