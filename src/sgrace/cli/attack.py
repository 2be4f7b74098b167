"""``sgrace attack``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.errors import InputError
from .options import TargetOptions, examples, set_option, target_options
from .program import goes_on_in
from .rescore import OPTION, AttackOrRescore
from .types import EFFORTS, PluginNames

if TYPE_CHECKING:
    from ..attacks import AttackSet, Budget

DEFAULT_ATTACKS = "none,random_tokens,more_seeds,unlearn_diff_atk,p4d_n,p4d_k"

EPILOG = examples(
    "sgrace attack safe -o sets",
    "sgrace attack safe --attacks unlearn_diff_atk,p4d_n --effort quick -o sets",
    "sgrace attack safe --attacks pez --set iterations=500 --limit seconds=600 -o sets",
    "sgrace attack some/folder --base other/folder --concept church --prompts prompts.csv \\",
    "    --words words.txt --detector image_classifier -o sets",
    "sgrace attack --rescore clip_zero_shot sets",
)


@click.command(cls=AttackOrRescore, epilog=EPILOG)
@click.option(
    OPTION,
    metavar="DETECTOR",
    expose_value=False,
    help="Attack nothing: TARGET is a folder of attack sets, whose stored images this detector judges anew. "
    "Nothing is drawn again, and the result goes beside each set. Only --detector-set and --json go with it.",
)
@click.option(
    "--attacks",
    "names",
    default=DEFAULT_ATTACKS,
    show_default=True,
    type=PluginNames("attacks"),
    help="Attacks, separated by commas.",
)
@click.option(
    "--effort",
    default="standard",
    show_default=True,
    type=click.Choice(EFFORTS),
    help="How long each attack searches; full is the paper's own. A zero at quick is no evidence.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="KIND=N",
    help="Hard limit of each attack: seconds, or samples through a network (denoiser_rows, "
    "text_encoder_rows); may be repeated.",
)
@set_option("attack, where only one is named")
@target_options
def attack(
    *, names: str, effort: str, limits: tuple[str, ...], pairs: tuple[str, ...], given: TargetOptions
) -> None:
    """Try to bring a concept back from TARGET.

    TARGET is the folder of an erasure, a diffusers folder or file, a hub id or emoji. The folder OUT gets one
    attack set for each attack: attempts.jsonl, tensors.safetensors and manifest.json.
    """
    from .._util.folders import check_resumable_folder, resumable_folder  # noqa: PLC0415
    from .._util.settings import parse_pairs  # noqa: PLC0415

    check_resumable_folder(given.out)  # cheap checks first
    chosen = names.split(",")
    settings = parse_pairs(pairs)
    if settings and len(chosen) > 1:
        raise InputError("--set needs a single attack; name it with --attacks.")
    attacks = {name: registry.load("attacks", name).preset(effort, settings) for name in chosen}
    budget = _budget(parse_pairs(limits, "--limit"))

    from ..attacks.attack_set import Start  # noqa: PLC0415  (torch takes seconds to import)
    from ..evaluation.caveats import ZERO_AT_QUICK  # noqa: PLC0415
    from ..evaluation.requests import request_of  # noqa: PLC0415
    from ..evaluation.suites import N_PROMPTS  # noqa: PLC0415
    from ..testbeds.scenes import prepare  # noqa: PLC0415

    scene, _ = prepare(given.load(), n_prompts=N_PROMPTS[effort], **given.scene.arguments)
    limits_given = budget.model_dump()
    request = request_of(scene, effort=effort, limits=limits_given, settings=settings, seed=given.seed)
    rows = []
    with goes_on_in(given.out), resumable_folder(given.out, request):
        for name, attacker in attacks.items():
            found = attacker.run_in(given.out / name, scene, budget, seed=given.seed)
            rows.append(_row(name, found))
            if not given.silent:
                told = Start.in_words(found.record.starts, found.record.note)
                click.echo("\n  ".join(line for line in (_line(rows[-1]), told) if line))
    zero = effort == "quick" and any(row["success"]["hits"] == 0 for row in rows)
    caveats = [ZERO_AT_QUICK] if zero else []
    if given.as_json:
        click.echo(json.dumps({"out": str(given.out), "attacks": rows, "caveats": caveats}))
    elif not given.quiet:
        click.echo("\n".join([*caveats, f"Attack sets: {given.out}"]))


def _budget(limits: dict[str, str]) -> Budget:
    from .._util.settings import config_from  # noqa: PLC0415
    from ..attacks import Budget  # noqa: PLC0415

    return config_from(Budget, {}, limits, "limit", "--limit")


def _row(name: str, found: AttackSet) -> dict[str, Any]:
    success = found.success
    spent = found.record.spent
    return {
        "attack": name,
        "pre": {"hits": success.pre.hits, **success.pre.as_dict()},
        "success": {"hits": success.union.hits, **success.union.as_dict()},
        "survival": found.survival,
        "checks": sum(attempt.checks for attempt in found.attempts),
        "truncated_prompts": found.record.truncated_prompts,
        "denoiser_rows": spent.denoiser_rows,
        "text_encoder_rows": spent.text_encoder_rows,
        "seconds": round(spent.seconds, 1),
        "stopped": found.record.stopped,
        "unit": found.record.unit,
        "starts": [start.model_dump() for start in found.record.starts],
        "note": found.record.note,
    }


def _line(row: dict[str, Any]) -> str:
    pre = row["pre"]
    success = row["success"]
    interval = f"{success['share']:6.1%} [{success['low']:.1%}, {success['high']:.1%}]"
    cost = f"denoiser {row['denoiser_rows']}  text {row['text_encoder_rows']}  {row['seconds']} s"
    stopped = "  stopped by the limit" if row["stopped"] == "budget" else ""
    return (
        f"{row['attack']:18s} success {interval}  plain {pre['share']:6.1%}  "
        f"n={success['n']}  checks {row['checks']}  {cost}{stopped}"
    )
