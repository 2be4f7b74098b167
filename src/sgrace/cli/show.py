"""``sgrace list`` and ``sgrace env``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable

import click

from .._util import registry
from .options import JSON

COLUMNS = ("trains", "pictures", "access", "several", "form", "families", "paper", "licence")
FAMILIES = ("erasers", "attacks", "detectors", "testbeds")
CONCEPTS = "concepts"


@click.command(name="list")
@click.argument("family", required=False, type=click.Choice([*FAMILIES, CONCEPTS]))
@click.option(
    "--matrix",
    is_flag=True,
    help="What each eraser needs and leaves, as Markdown tables: erasers of weights, then guidance while sampling.",
)
@JSON
def list_(*, family: str | None, matrix: bool, as_json: bool) -> None:
    """List erasers, attacks, detectors, testbeds and the concepts of the built-in model, or one FAMILY of them."""
    if matrix:
        _print_matrix(as_json=as_json)
        return
    families = [family] if family else [*FAMILIES, CONCEPTS]
    found = {each: _names(each) for each in families}
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each, names in found.items():
        if each == CONCEPTS and not family:  # hundreds
            click.echo(f"{len(names)} concepts of the built-in model: `sgrace list concepts`")
            continue
        click.echo(f"{each}\n{columns(names)}\n")
    if family != CONCEPTS:
        click.echo("`sgrace info NAME` explains each of them and its settings.")


def _names(family: str) -> list[str]:
    if family == CONCEPTS:
        from ..testbeds.emoji.concepts import known_concepts  # noqa: PLC0415  (reads a file)

        return known_concepts()
    return list(registry.names(family))


def columns(names: Iterable[str], indent: int = 2) -> str:
    """Names in columns as wide as the longest, down each column first, within the width of the terminal."""
    found = list(names)
    width = max(map(len, found), default=0) + 2
    across = max(1, (min(shutil.get_terminal_size().columns, 110) - indent) // width)
    down = -(-len(found) // across)
    rows = [found[i::down] for i in range(down)]
    return "\n".join((" " * indent + "".join(name.ljust(width) for name in row)).rstrip() for row in rows)


def _print_matrix(*, as_json: bool) -> None:
    rows = {
        name: {c: getattr(registry.load("erasers", name), c) for c in COLUMNS}
        for name in sorted(registry.names("erasers"))
    }
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    guided = {
        name: row for name, row in rows.items() if row["form"] == "guidance"
    }  # no rival of changed weights: no file carries it
    click.echo(
        _matrix({name: row for name, row in rows.items() if name not in guided}) + "\n\n" + _matrix(guided)
    )


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
    return "\n".join(
        lines + [f"| `{name}` | " + " | ".join(row.values()) + " |" for name, row in rows.items()]
    )


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
