"""``sgrace attack``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import registry
from ..errors import InputError
from .common import JSON, load_quietly, settings_of, user_errors

if TYPE_CHECKING:
    from ..attacks import AttackSet, Budget

DEFAULT_ATTACKS = ("none", "random_tokens", "more_seeds", "unlearn_diff_atk", "p4d_n", "p4d_k")


@click.command()
@click.argument("target")
@click.option("--concept", help="What the attack wants to bring back; known by itself for an erasure of one concept.")
@click.option(
    "--attack", "names", default="none,random_tokens,more_seeds,unlearn_diff_atk,p4d_n,p4d_k", show_default=True, help="Attacks, by comma."
)
@click.option("--model", help="The model before erasing, for a target that is no erasure's folder.")
@click.option("--budget", "length", default="standard", show_default=True, help="quick, standard, or full (the paper's own).")
@click.option("--limit", "limits", multiple=True, metavar="KIND=NUMBER", help="Hard limit: unet_rows, text_encoder_rows or seconds.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="One setting of the attack (with one attack only).")
@click.option("--prompts", "prompt_file", type=click.Path(path_type=Path), help="Prompt table: a prompt a line, or CSV.")
@click.option("--knowledge", "word_file", type=click.Path(path_type=Path), help="Word file of the concept.")
@click.option("--detector", "detector_name", default=None, help="Decides success; the judge, for the built-in model.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the sets; the same command again goes on in it.")
@JSON
@user_errors
def attack(
    target: str,
    concept: str | None,
    names: str,
    model: str | None,
    length: str,
    limits: tuple[str, ...],
    pairs: tuple[str, ...],
    prompt_file: Path | None,
    word_file: Path | None,
    detector_name: str | None,
    seed: int,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Attack TARGET (an erasure's folder, a diffusers folder, a hub id or `emoji`) and say how often the concept comes back."""
    from ..attacks.prompt_table import read_prompts  # noqa: PLC0415  (torch takes seconds to import)
    from ..knowledge import Knowledge  # noqa: PLC0415

    chosen, settings = [name.strip() for name in names.split(",")], settings_of(pairs)
    if settings and len(chosen) > 1:
        raise InputError("--set needs a single attack.")
    for name in chosen:
        registry.load("attacks", name).preset(length, settings)  # cheap checks first
    budget = _budget(settings_of(limits))
    prompts = read_prompts(prompt_file) if prompt_file else None
    knowledge = Knowledge.from_file(word_file) if word_file else None

    from .. import api  # noqa: PLC0415
    from ..attacks import AttackSet  # noqa: PLC0415
    from ..files import resumable_folder  # noqa: PLC0415

    load_quietly()
    attacked, original, erasure = api.load_target(target)
    kind = None
    if concept is None:
        concept, kind = api.only_concept(erasure)
    if original is None:
        original = api.load_model(model) if model else None
    detector = registry.load("detectors", detector_name).for_concept(concept) if detector_name else None
    scene = api.scene_of(
        attacked, concept, original=original, length=length, prompts=prompts, knowledge=knowledge, detector=detector, kind=kind
    )
    request = {
        "target": api.fingerprint(attacked),
        "concept": concept,
        "budget": length,
        "limits": budget.model_dump(mode="json"),
        "settings": settings,
        "prompts": [[p.text, p.seed] for p in scene.prompts],
        "detector": scene.detector.identity.as_dict(),
        "seed": seed,
    }
    resumable_folder(out, request)
    rows = []
    for name in chosen:
        if not (out / name).is_dir():
            registry.load("attacks", name).preset(length, settings).run(scene, budget, seed=seed).save_pretrained(out / name)
        rows.append(_row(name, AttackSet.from_pretrained(out / name)))
        if not as_json:
            click.echo(_line(rows[-1]))
    if as_json:
        click.echo(json.dumps({"out": str(out), "attacks": rows}))


def _budget(limits: dict[str, str]) -> Budget:
    from ..api import UNLIMITED  # noqa: PLC0415
    from ..attacks import Budget  # noqa: PLC0415
    from ..settings import config_from  # noqa: PLC0415

    return config_from(Budget, UNLIMITED.model_dump(), limits, "limit")


def _row(name: str, found: AttackSet) -> dict[str, Any]:
    success, spent = found.success, found.record["spent"]
    return {
        "attack": name,
        "pre": success.pre.as_dict(),
        "success": success.union.as_dict(),
        "survival": found.survival,
        "checks": sum(a.checks for a in found.attempts),
        "unet_rows": spent["unet_rows"],
        "text_encoder_rows": spent["text_encoder_rows"],
        "seconds": round(spent["seconds"], 1),
        "stopped": found.record["stopped"],
    }


def _line(row: dict[str, Any]) -> str:
    pre, success = row["pre"], row["success"]
    return (
        f"{row['attack']:18s} success {success['share']:6.1%} [{success['low']:.1%}, {success['high']:.1%}]  plain {pre['share']:6.1%}  "
        f"n={success['n']}  checks {row['checks']}  UNet {row['unet_rows']}  text {row['text_encoder_rows']}  {row['seconds']} s"
    )
