"""``sgrace list`` and ``sgrace env``."""

from __future__ import annotations

import json

import click

from .._util import registry
from .common import JSON, user_errors

COLUMNS = ("trains", "pictures", "access", "several", "form", "families", "paper", "licence")


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
        rows = {name: {c: getattr(registry.load("erasers", name), c) for c in COLUMNS} for name in sorted(registry.names("erasers"))}
        if as_json:
            click.echo(json.dumps(rows, indent=2))
            return
        guided = {name: row for name, row in rows.items() if row["form"] == "guidance"}  # no rival of changed weights: no file carries it
        click.echo(_matrix({name: row for name, row in rows.items() if name not in guided}) + "\n\n" + _matrix(guided))
        return
    from ..erasers.sgrace.config import PRESETS  # noqa: PLC0415
    from ..testbeds import emoji  # noqa: PLC0415

    found = {family: list(registry.names(family)) for family in ("erasers", "attacks", "detectors", "testbeds")}
    found["presets of sgrace"] = list(PRESETS)
    everything = {**found, "concepts of emoji": emoji.known_concepts()}
    if as_json:
        click.echo(json.dumps(everything, indent=2))
        return
    for family, members in everything.items():
        click.echo(f"{family}: {', '.join(members)}")


def _matrix(rows: dict[str, dict[str, str]]) -> str:
    heads = (
        "trains",
        "pictures",
        "access",
        "several concepts",
        "leaves",
        "families",
        "paper",
        "authors' code",
    )
    lines = ["| eraser | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    return "\n".join(lines + [f"| `{name}` | " + " | ".join(row.values()) + " |" for name, row in rows.items()])


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
