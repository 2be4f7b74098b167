"""``sgrace attack``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError
from .._util.settings import config_from, parse_pairs
from .common import JSON, load_scene_target, scene_arguments, scene_options, user_errors

if TYPE_CHECKING:
    from ..attacks import AttackSet, Budget

DEFAULT_ATTACKS = ("none", "random_tokens", "more_seeds", "unlearn_diff_atk", "p4d_n", "p4d_k")


@click.command()
@click.argument("target")
@click.option(
    "--attack", "names", default=",".join(DEFAULT_ATTACKS), show_default=True, help="Attacks, by comma."
)
@click.option(
    "--budget",
    "length",
    default="standard",
    show_default=True,
    help="quick, standard, or full (the paper's own).",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KIND=NUMBER",
    help="Hard limit: denoiser_rows, text_encoder_rows or seconds.",
)
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One setting of the attack (with one attack only).",
)
@scene_options
@JSON
@user_errors
def attack(
    target: str,
    names: str,
    length: str,
    limits: tuple[str, ...],
    pairs: tuple[str, ...],
    base: str | None,
    seed: int,
    out: Path,
    *,
    as_json: bool,
    **scene_given: Any,  # noqa: ANN401  (see scene_arguments)
) -> None:
    """Attack TARGET (an erasure's folder, a diffusers folder, a hub id or `emoji`) and say how often the concept comes back."""
    chosen, settings = [name.strip() for name in names.split(",")], parse_pairs(pairs)
    if settings and len(chosen) > 1:
        raise InputError("--set needs a single attack.")
    attacks = {
        name: registry.load("attacks", name).preset(length, settings) for name in chosen
    }  # cheap checks first
    budget = _budget(parse_pairs(limits, "--limit"))

    from .._util.files import resumable_folder  # noqa: PLC0415
    from ..attacks import AttackSet  # noqa: PLC0415  (torch takes seconds to import)
    from ..evaluation.caveats import ZERO_AT_QUICK  # noqa: PLC0415
    from ..evaluation.requests import request_of  # noqa: PLC0415
    from ..evaluation.suites import N_PROMPTS  # noqa: PLC0415
    from ..testbeds.scenes import prepare  # noqa: PLC0415

    given = scene_arguments(**scene_given)
    loaded = load_scene_target(target, base=base, quiet=as_json)
    scene, _ = prepare(loaded, n_prompts=N_PROMPTS[length], **given)
    request = request_of(scene, effort=length, limits=budget.model_dump(), settings=settings, seed=seed)
    rows = []
    with resumable_folder(out, request):
        for name, attacker in attacks.items():
            if not (out / name).is_dir():
                attacker.run(scene, budget, seed=seed).save_pretrained(out / name)
            rows.append(_row(name, AttackSet.from_pretrained(out / name, scene.prompts)))
            if not as_json:
                click.echo(_line(rows[-1]))
    if length == "quick" and not as_json:
        click.echo(ZERO_AT_QUICK)
    if as_json:
        click.echo(json.dumps({"out": str(out), "attacks": rows}))


def _budget(limits: dict[str, str]) -> Budget:
    from ..api import UNLIMITED  # noqa: PLC0415
    from ..attacks import Budget  # noqa: PLC0415

    return config_from(Budget, UNLIMITED.model_dump(), limits, "limit")


def _row(name: str, found: AttackSet) -> dict[str, Any]:
    success, spent = found.success, found.record.spent
    return {
        "attack": name,
        "pre": success.pre.as_dict(),
        "success": success.union.as_dict(),
        "survival": found.survival,
        "checks": sum(a.checks for a in found.attempts),
        "denoiser_rows": spent.denoiser_rows,
        "text_encoder_rows": spent.text_encoder_rows,
        "seconds": round(spent.seconds, 1),
        "stopped": found.record.stopped,
    }


def _line(row: dict[str, Any]) -> str:
    pre, success = row["pre"], row["success"]
    return (
        f"{row['attack']:18s} success {success['share']:6.1%} [{success['low']:.1%}, {success['high']:.1%}]  plain {pre['share']:6.1%}  "
        f"n={success['n']}  checks {row['checks']}  denoiser {row['denoiser_rows']}  text {row['text_encoder_rows']}  {row['seconds']} s"
    )
