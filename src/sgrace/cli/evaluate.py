"""``sgrace evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError, unknown
from .common import JSON, scene_from, scene_options, user_errors

if TYPE_CHECKING:
    from ..erasure import Erasure
    from ..evaluation import Evaluation
    from ..evaluation.schema import Rate


@click.command()
@click.argument("target")
@click.option("--attacks", "names", help="Attacks, by comma, in place of the suite's.")
@click.option("--suite", "suite_name", default="standard", show_default=True, help="quick, standard, or full.")
@click.option("--text-encoder", type=click.Path(path_type=Path), help="Text-encoder folder that replaces TARGET's own.")
@click.option("--unet", type=click.Path(path_type=Path), help="UNet folder that replaces TARGET's own.")
@click.option("--features", help="Folder or hub id of a CLIP or vision model on whose features unrelated pictures are compared.")
@scene_options
@JSON
@user_errors
def evaluate(
    target: str,
    names: str | None,
    suite_name: str,
    features: str | None,
    seed: int,
    out: Path,
    *,
    as_json: bool,
    **scene_given: Any,  # noqa: ANN401  (see scene_options)
) -> None:
    """Attack and measure TARGET (an erasure's folder, a diffusers folder, a hub id or `emoji`), and write the report."""
    from ..evaluation.suites import SUITES  # noqa: PLC0415  (torch takes seconds to import)

    if suite_name not in SUITES:
        raise unknown("suite", suite_name, SUITES)
    suite = SUITES[suite_name]
    attacks = [name.strip() for name in names.split(",")] if names else list(suite.attacks)
    for name in attacks:
        registry.load("attacks", name)

    from .. import api  # noqa: PLC0415
    from .._util.files import resumable_folder  # noqa: PLC0415
    from ..evaluation import evaluate as run  # noqa: PLC0415
    from ..evaluation.features import from_hub  # noqa: PLC0415
    from ..report import write_report  # noqa: PLC0415

    extractor = from_hub(features) if features else None
    scene, erasure, request = scene_from(target, suite.length, quiet=as_json, **scene_given)
    if extractor and scene.original is None:
        raise InputError("--features compares pictures with those of the model before erasing: name it with --base.")
    facts = {
        "target": target,
        "target_sha256": request["target"],
        "base": None if scene.original is None else scene.original.source,
        "method": erasure.recipe["method"] if erasure else None,
        "suite": suite_name,
        "cost": _cost(erasure, Path(target)) if erasure else {},
    }
    built_in = api.is_built_in(scene.target)
    request |= {"suite": suite_name, "attacks": attacks, "features": features, "seed": seed}
    with resumable_folder(out, request):
        result = run(scene, suite, out, facts=facts, built_in=built_in, attacks=attacks, extractor=extractor, seed=seed)
        write_report(out)
    click.echo(result.model_dump_json() if as_json else _table(result) + f"\n\nReport: {out}/report.html")


def _cost(erasure: Erasure, folder: Path) -> dict[str, Any]:
    known: dict[str, Any] = {key: erasure.recipe[key] for key in ("seconds", "cost", "peak_memory_mb") if key in erasure.recipe}
    return {**known, "artefact_bytes": sum(file.stat().st_size for file in folder.rglob("*.safetensors"))}


def _table(result: Evaluation) -> str:
    lines = [f"{result.concept}: attack success per prompt, with 95 % intervals"]
    lines += [f"  {row.attack:20s} {row.success}  checks {row.checks}  {row.seconds} s{_gold(row.gold)}" for row in result.attacks]
    lines += [f"  {'worst case':20s} {result.worst_case}", f"  {'worst case by prompt':20s} {result.worst_case_by_prompt}"]
    if result.retention:
        lines.append("judged right, before -> after")
    for kept in result.retention:
        before = f"{kept.before.share:6.1%}" if kept.before else "     -"
        lines.append(f"  {kept.question:20s} {before} -> {kept.after}{_gold(kept.gold)}")
    return "\n".join(lines)


def _gold(rate: Rate | None) -> str:
    return f"  retrained without it {rate.share:.1%}" if rate else ""
