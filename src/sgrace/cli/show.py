"""``sgrace list`` and ``sgrace env``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable

import click

from .._util import registry
from .._util.registry import GROUPS
from .matrix import markdown
from .matrix import rows as matrix_of_all
from .options import JSON

CONCEPTS = "concepts"


@click.command(name="list")
@click.argument("group", required=False, type=click.Choice([*GROUPS, CONCEPTS]))
@click.option(
    "--matrix",
    is_flag=True,
    help="What each eraser needs and leaves, and in which precisions erasers and attacks run on each family "
    "of models, as Markdown tables.",
)
@JSON
def list_(*, group: str | None, matrix: bool, as_json: bool) -> None:
    """List erasers, attacks, detectors, testbeds and concepts, or one GROUP of them."""
    if matrix:
        rows = matrix_of_all()
        click.echo(json.dumps(rows, indent=2) if as_json else markdown(rows))
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
