"""``sgrace list`` and ``sgrace env``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .common import JSON, user_errors

if TYPE_CHECKING:
    from ..erasers.base import Eraser


@click.command(name="list")
@click.option(
    "--matrix",
    is_flag=True,
    help="What each eraser needs and leaves, as Markdown tables: erasers of weights, then guidance while sampling.",
)
@JSON
@user_errors
def list_(*, matrix: bool, as_json: bool) -> None:
    """Show the erasers, models, and concepts that the built-in model's judge can count."""
    if matrix:
        rows = {name: _row(registry.load("erasers", name)) for name in registry.names("erasers")}
        click.echo(json.dumps(rows, indent=2) if as_json else _matrix(rows))
        return
    from ..erasers.sgrace.config import PRESETS  # noqa: PLC0415
    from ..testbeds import emoji  # noqa: PLC0415

    found = {
        family: list(registry.names(family)) for family in ("erasers", "attacks", "detectors", "testbeds")
    }
    found["presets of sgrace"] = list(PRESETS)
    everything = {**found, "concepts of emoji": emoji.known_concepts()}
    if as_json:
        click.echo(json.dumps(everything, indent=2))
        return
    for family, members in everything.items():
        click.echo(f"{family}: {', '.join(members)}")


def _row(eraser: type[Eraser[Any]]) -> dict[str, str]:
    """What an eraser changes with its presets, the default one first; what it needs and leaves; where it runs."""
    from ..erasers.base import Need  # noqa: PLC0415  (takes seconds to import)
    from ..models.loading import known_families  # noqa: PLC0415

    presets = [eraser.default_preset, *eraser.presets]
    sites = list(dict.fromkeys(eraser.preset(name, "object").site for name in presets))
    left = dict.fromkeys(site if site in {"adapter", "guidance"} else "plain weights" for site in sites)
    refused = {family.family: eraser.refusal(family) for family in known_families()}
    return {
        "changes": ", ".join(f"`{site}`" for site in sites),
        "needs": "; ".join(need for need in Need if need in eraser.needs),
        "leaves": " or ".join(left),
        "families": "; ".join(f"not {name}: {why}" if why else name for name, why in refused.items()),
        "paper": eraser.paper,
        "authors' code": eraser.licence,
    }


def _matrix(rows: Mapping[str, Mapping[str, str]]) -> str:
    """A table of the erasers that change or add weights, and one of those that steer the sampling.

    No file carries guidance, so the second are no rivals of the first.
    """
    guided = {name: row for name, row in rows.items() if row["leaves"] == "guidance"}
    weights = {name: row for name, row in rows.items() if name not in guided}
    tables = []
    for part in (weights, guided):
        heads = ["eraser", *next(iter(part.values()))]
        lines = [heads, ["---"] * len(heads), *([f"`{name}`", *row.values()] for name, row in part.items())]
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(tables)


@click.command()
@JSON
@user_errors
def env(*, as_json: bool) -> None:
    """Versions and machine, for bug reports."""
    import platform  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from .._util.provenance import versions  # noqa: PLC0415

    facts = {
        **versions(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
    }
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))
