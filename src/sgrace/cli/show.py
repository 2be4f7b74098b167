"""``sgrace list`` and ``sgrace env``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from .._util import registry
from .._util.registry import GROUPS
from .options import JSON

if TYPE_CHECKING:
    from ..attacks import Attack
    from ..erasers.base import Eraser

CONCEPTS = "concepts"


@click.command(name="list")
@click.argument("group", required=False, type=click.Choice([*GROUPS, CONCEPTS]))
@click.option(
    "--matrix",
    is_flag=True,
    help="What each eraser needs and leaves, and where each attack runs, as Markdown tables: erasers that "
    "change weights, those that guide, attacks.",
)
@JSON
def list_(*, group: str | None, matrix: bool, as_json: bool) -> None:
    """List erasers, attacks, detectors, testbeds and concepts, or one GROUP of them."""
    if matrix:
        rows = {name: _row(registry.load("erasers", name)) for name in registry.names("erasers")}
        attacks = {name: _attack_row(registry.load("attacks", name)) for name in registry.names("attacks")}
        click.echo(json.dumps(rows | attacks, indent=2) if as_json else _matrix(rows, attacks))
        return
    groups = [group] if group else [*GROUPS, CONCEPTS]
    found = {each: _names(each) for each in groups}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each, names in found.items():
        if each == CONCEPTS and not group:  # hundreds
            click.echo(f"{len(names)} concepts of the built-in model: `sgrace list concepts`")
            continue
        click.echo(f"{each}\n{columns(names)}\n")
    if group != CONCEPTS:
        click.echo("`sgrace info NAME` explains each of them and its settings.")


def _names(group: str) -> list[str]:
    if group == CONCEPTS:
        from ..testbeds.emoji.concepts import known_concepts  # noqa: PLC0415  (reads a file)

        return known_concepts()
    return list(registry.names(group))


def columns(names: Iterable[str], indent: int = 2) -> str:
    """Names in columns as wide as the longest, down each column first, within the width of the terminal."""
    found = list(names)
    width = max(map(len, found), default=0) + 2
    across = max(1, (min(shutil.get_terminal_size().columns, 110) - indent) // width)
    down = -(-len(found) // across)
    rows = [found[i::down] for i in range(down)]
    return "\n".join((" " * indent + "".join(name.ljust(width) for name in row)).rstrip() for row in rows)


def _row(eraser: type[Eraser[Any]]) -> dict[str, str]:
    """What an eraser changes with its presets, what it needs and leaves, and where it runs."""
    from ..models.needs import Need  # noqa: PLC0415  (takes seconds to import)

    presets = [eraser.default_preset, *eraser.presets]
    # of all presets, without repeats
    every = [site for name in presets for site in eraser.preset(name, "object").sites]
    sites = list(dict.fromkeys(every))
    left = dict.fromkeys(site if site in {"adapter", "guidance"} else "plain weights" for site in sites)
    return {
        "changes": ", ".join(f"`{site}`" for site in sites),
        "needs": "; ".join(need for need in Need if need in eraser.needs),
        "leaves": " or ".join(left),
        "families": _families(eraser),
        "paper": eraser.paper,
        "authors' code": eraser.licence,
    }


def _attack_row(attack: type[Attack[Any]]) -> dict[str, str]:
    """What an attack needs of the target, and where it runs."""
    return {"access": attack.access, "families": _families(attack), "paper": attack.paper}


def _families(plugin: type[Eraser[Any]] | type[Attack[Any]]) -> str:
    """The families of models on which something runs, and why not on the others."""
    from ..models.loading import known_families  # noqa: PLC0415  (takes seconds to import)

    by_reason: dict[str, list[str]] = {"": []}
    for family in known_families():
        by_reason.setdefault(plugin.refusal(family), []).append(family.family)
    runs = "all" if len(by_reason) == 1 else ", ".join(by_reason.pop(""))
    return "; ".join([runs, *(f"not {', '.join(names)}: {why}" for why, names in by_reason.items() if why)])


def _matrix(rows: Mapping[str, Mapping[str, str]], attacks: Mapping[str, Mapping[str, str]]) -> str:
    """Tables of the erasers that change or add weights, of those that steer the sampling, and of attacks.

    No file carries guidance, so the second are no rivals of the first.
    """
    guided = {name: row for name, row in rows.items() if row["leaves"] == "guidance"}
    weights = {name: row for name, row in rows.items() if name not in guided}
    tables = []
    for kind, part in (("eraser", weights), ("eraser", guided), ("attack", attacks)):
        heads = [kind, *next(iter(part.values()))]
        lines = [heads, ["---"] * len(heads), *([f"`{name}`", *row.values()] for name, row in part.items())]
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(tables)


@click.command()
@JSON
def env(*, as_json: bool) -> None:
    """Show versions, devices and threads, for reports of bugs."""
    import os  # noqa: PLC0415
    import platform  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from .._util.provenance import versions  # noqa: PLC0415

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices = ["cpu", *(f"cuda:{i} ({name})" for i, name in enumerate(cards))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    facts = {
        **versions(),
        "platform": platform.platform(),
        "devices": devices,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
