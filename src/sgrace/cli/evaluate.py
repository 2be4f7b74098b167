"""``sgrace evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import registry
from ..errors import unknown
from .common import JSON, load_quietly, user_errors

if TYPE_CHECKING:
    from ..evaluation import Evaluation


@click.command()
@click.argument("target")
@click.option("--concept", help="What was erased; known by itself for an erasure of one concept.")
@click.option("--attacks", "names", help="Attacks, by comma, in place of the suite's.")
@click.option("--suite", "suite_name", default="standard", show_default=True, help="quick, standard, or full.")
@click.option("--base", help="The model before erasing, for a target that is no erasure's folder.")
@click.option("--text-encoder", type=click.Path(path_type=Path), help="Text-encoder folder that replaces TARGET's own.")
@click.option("--unet", type=click.Path(path_type=Path), help="UNet folder that replaces TARGET's own.")
@click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), help="Prompt table: a prompt a line, or CSV.")
@click.option("--knowledge", "word_file", type=click.Path(path_type=Path), help="Word file of the concept.")
@click.option("--detector", "detector_name", help="Decides success; the judge, for the built-in model.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the results; the same command again goes on in it.")
@JSON
@user_errors
def evaluate(
    target: str,
    concept: str | None,
    names: str | None,
    suite_name: str,
    base: str | None,
    text_encoder: Path | None,
    unet: Path | None,
    prompt_file: Path | None,
    word_file: Path | None,
    detector_name: str | None,
    seed: int,
    out: Path,
    *,
    as_json: bool,
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
    from ..attacks.prompt_table import read_prompts  # noqa: PLC0415
    from ..evaluation import evaluate as run  # noqa: PLC0415
    from ..files import resumable_folder  # noqa: PLC0415
    from ..knowledge import Knowledge  # noqa: PLC0415

    prompts = read_prompts(prompt_file) if prompt_file else None
    knowledge = Knowledge.from_file(word_file) if word_file else None
    load_quietly()
    attacked, original, erasure = api.load_target(target)
    if text_encoder or unet:
        attacked, original = attacked.with_parts(text_encoder, unet), original or attacked
    kind = None
    if concept is None:
        concept, kind = api.only_concept(erasure)
    if original is None and base:
        original = api.load_model(base)
    for model in (attacked, original):
        if model is not None:
            model.set_progress_bar_config(disable=as_json)
    detector = registry.load("detectors", detector_name).for_concept(concept) if detector_name else None
    scene = api.scene_of(
        attacked, concept, original=original, length=suite.length, prompts=prompts, knowledge=knowledge, detector=detector, kind=kind
    )
    request = {
        "target": api.fingerprint(attacked),
        "base": None if original is None else api.fingerprint(original),
        "concept": concept,
        "suite": suite_name,
        "attacks": attacks,
        "prompts": [[p.text, p.seed] for p in scene.prompts],
        "detector": scene.detector.identity.as_dict(),
        "seed": seed,
    }
    facts = {
        "target": target,
        "target_sha256": request["target"],
        "base": None if original is None else original.source,
        "method": erasure.recipe["method"] if erasure else None,
        "suite": suite_name,
        "cost": {key: erasure.recipe[key] for key in ("seconds", "cost", "peak_memory_mb")} if erasure else {},
    }
    result = run(scene, suite, resumable_folder(out, request), facts=facts, built_in=api.is_built_in(attacked), attacks=attacks, seed=seed)
    from ..report import write_report  # noqa: PLC0415

    write_report(out)
    click.echo(result.model_dump_json() if as_json else _table(result) + f"\n\nReport: {out}/report.html")


def _table(result: Evaluation) -> str:
    lines = [f"{result.concept}: attack success per prompt, with 95 % intervals"]
    lines += [f"  {row.attack:20s} {row.success}  checks {row.checks}  {row.seconds} s" for row in result.attacks]
    lines += [f"  {'worst case':20s} {result.worst_case}", f"  {'worst case by prompt':20s} {result.worst_case_by_prompt}"]
    if result.retention:
        lines.append("judged right, before -> after")
    for kept in result.retention:
        before = f"{kept.before.share:6.1%}" if kept.before else "     -"
        lines.append(f"  {kept.question:20s} {before} -> {kept.after}")
    return "\n".join(lines)
