"""``sgrace study``: plan, run, status, table and verify."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._util.errors import InputError
from .options import JSON, QUIET, examples
from .study_tables import OUT, STUDY_FILE, best, report, results, submit, table
from .types import COUNTS

if TYPE_CHECKING:
    from ..study import Cell, Store
    from ..study.cell import CellKind

EPILOG = examples(
    "sgrace study plan studies/smoke.yaml -o smoke",
    "sgrace study run studies/smoke.yaml -o smoke",
    "sgrace study table studies/smoke.yaml -o smoke",
)
KINDS: tuple[CellKind, ...] = ("erasure", "attack", "images", "space", "score")


@click.group(epilog=EPILOG)
def study() -> None:
    """Compare erasers under attack, as a file says: piece by piece, resumable, on one machine or many."""


@study.command()
@STUDY_FILE
@OUT
@JSON
def plan(file: Path, out: str, *, as_json: bool) -> None:
    """Print what FILE asks for, what of it is finished, and what the rest will cost."""
    from ..study import cells_of, read_study  # noqa: PLC0415  (torch takes seconds to import)
    from ..study.estimate import estimate  # noqa: PLC0415
    from ..study.place import store_at  # noqa: PLC0415

    cells = cells_of(read_study(file))
    store = store_at(out)
    open_cells = [cell for cell in cells if not store.is_finished(cell)]
    cost = estimate(open_cells, store.manifests())
    every = Counter(cell.kind for cell in cells)
    missing = Counter(cell.kind for cell in open_cells)
    users = Counter(each.id for cell in cells for each in cell.needs.values())
    shared = [cell for cell in cells if users[cell.id] > 1 and cell.kind != "erasure"]
    if as_json:
        click.echo(
            json.dumps(
                {
                    "cells": [_as_dict(cell, store) for cell in cells],
                    "estimate": cost.__dict__,
                }
            )
        )
        return
    for kind in KINDS:
        count = f"{kind:8s} {every[kind]:6d} cells, {every[kind] - missing[kind]} finished"
        needed = _needs_in_words([cell for cell in cells if cell.kind == kind])
        click.echo(f"{count}{f'; they read {needed}' if needed else ''}")
    click.echo(f"Made once and used by several rows, such as the original's images: {len(shared)}.")
    if not open_cells:
        click.echo("Nothing is missing.")
        return
    click.echo(f"{len(open_cells)} cells are missing: {_cost_in_words(cost)}")


@study.command()
@STUDY_FILE
@OUT
@click.option(
    "--engine",
    default="inline",
    show_default=True,
    type=click.Choice(["inline", "ray"]),
    help="inline makes one cell after the other; ray as many at once as there is room for.",
)
@click.option(
    "--address",
    help="Of a Ray cluster: auto, or HOST:PORT. Without it and RAY_ADDRESS, Ray starts on this machine.",
)
@click.option("--cpus", type=click.FloatRange(min=0.01), help="A cell's CPUs, for ray; 1, if absent.")
@click.option("--gpus", type=click.FloatRange(min=0), help="A cell's GPUs, for ray; 0, if absent.")
@click.option(
    "--memory",
    type=click.IntRange(min=0),
    metavar="MIB",
    help="Memory of a process, for ray; that of earlier cells that are like these, if absent.",
)
@click.option(
    "--shard", metavar="I/N", help="Make the I-th of N parts only, in a folder that all of them share."
)
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option(
    "--report-to",
    type=click.Choice(["trackio", "wandb", "tensorboard"]),
    help="Tracker that gets the scalars: cells done, seconds, and what each scoring found. Never an image.",
)
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda or mps.")
@click.option("--batch-size", type=COUNTS, help="Samples that run through a network together.")
@click.option("--threads", type=COUNTS, help="Threads of the CPU for each cell.")
@QUIET
@JSON
def run(
    file: Path,
    out: str,
    engine: str,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    memory: int | None,
    shard: str | None,
    report_to: str | None,
    device: str,
    batch_size: int | None,
    threads: int | None,
    *,
    retry_failed: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make the cells of FILE that are missing; the same command again goes on."""
    from ..study import cells_of, read_study  # noqa: PLC0415
    from ..study.engine import inline, sharded  # noqa: PLC0415
    from ..study.place import open_store  # noqa: PLC0415
    from ..study.trackers import check_tracker, reported, tracker_of  # noqa: PLC0415
    from ..testbeds.loading import LoadOptions  # noqa: PLC0415

    found = read_study(file)
    cells = cells_of(found)
    if shard is not None:
        cells = sharded(cells, _shard(shard))
    for_ray = {"--address": address, "--cpus": cpus, "--gpus": gpus, "--memory": memory}
    if engine != "ray":
        _check_absent(for_ray)
    _check_amount("--cpus", cpus)
    _check_amount("--gpus", gpus)
    if report_to is not None:
        check_tracker(report_to)
    store = open_store(out)
    options = LoadOptions(device=device, batch_size=batch_size, threads=threads)
    if engine == "ray":
        from ..study.ray_engine import on_ray  # noqa: PLC0415

        made = on_ray(
            cells,
            store,
            options,
            retry_failed=retry_failed,
            address=address,
            num_cpus=1 if cpus is None else cpus,
            num_gpus=0 if gpus is None else gpus,
            memory_mb=memory,
        )
    else:
        made = inline(cells, store, options, retry_failed=retry_failed)
    if report_to is not None:
        made = reported(made, store, tracker_of(report_to, found.name, store.folder))
    outcomes = []
    for outcome in _watched(made, len(cells), silent=quiet or as_json):
        outcomes.append(outcome)
        if outcome.status == "failed" and not as_json:
            click.echo(f"failed: {outcome.cell.title}: {outcome.why}", err=True)
    counts = Counter(outcome.status for outcome in outcomes)
    bad = [outcome for outcome in outcomes if outcome.status in {"failed", "blocked"}]
    if as_json:
        rows = [{"id": o.cell.id, "title": o.cell.title, "status": o.status, "why": o.why} for o in outcomes]
        click.echo(json.dumps({"counts": counts, "cells": rows}))
    elif not quiet:
        click.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
    if bad:
        click.get_current_context().exit(1)


@study.command()
def schema() -> None:
    """Print the JSON schema of a study file."""
    from ..study.schema import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema(), indent=2))


@study.command()
@STUDY_FILE
@OUT
@JSON
def status(file: Path, out: str, *, as_json: bool) -> None:
    """Print how many cells of FILE are finished, and why others failed."""
    from ..study import cells_of, read_study  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415

    store, cells = find_store(out), cells_of(read_study(file))
    if as_json:
        click.echo(json.dumps([_as_dict(cell, store) for cell in cells]))
        return
    for kind in KINDS:
        own = [cell for cell in cells if cell.kind == kind]
        finished = sum(store.is_finished(cell) for cell in own)
        click.echo(f"{kind:8s} {finished} of {len(own)} finished")
    for cell in cells:
        if why := store.failure(cell):
            click.echo(f"failed: {cell.title}: {why}")


@study.command()
@STUDY_FILE
@OUT
def verify(file: Path, out: str) -> None:
    """Compare every finished cell of FILE with the digests in its manifest."""
    from ..study import cells_of, read_study  # noqa: PLC0415
    from ..study.place import find_store  # noqa: PLC0415

    store = find_store(out)
    finished = [cell for cell in cells_of(read_study(file)) if store.is_finished(cell)]
    wrong = {cell: store.changed(cell) for cell in finished}
    for cell, names in wrong.items():
        if names:
            click.echo(f"changed: {cell.title} ({store.place(cell)}): {', '.join(names)}")
    n = sum(bool(names) for names in wrong.values())
    click.echo(f"{len(finished) - n} of {len(finished)} finished cells are as they were written.")
    if n:
        click.get_current_context().exit(1)


def _needs_in_words(cells: Sequence[Cell]) -> str:
    """How many cells of each kind these read."""
    needed = {each.id: each.kind for cell in cells for each in cell.needs.values()}
    counts = Counter(needed.values())
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])


def _shard(given: str) -> tuple[int, int]:
    number, _, of = given.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"--shard takes I/N with I from 1 to N, not {given[:60]!r}.")
    return int(number), int(of)


def _check_absent(for_ray: Mapping[str, object]) -> None:
    """Check that nothing is asked of an engine that does not do it."""
    for option, value in for_ray.items():
        if value is not None:
            raise InputError(f"{option} needs --engine ray.")


def _check_amount(option: str, amount: float | None) -> None:
    """Check an amount that Ray takes: a part of one, or a whole number, but not one and a part."""
    if amount is None:
        return
    if not math.isfinite(amount) or (amount > 1 and amount % 1):
        raise InputError(f"{option} takes a part of one, or a whole number, not {amount}.")


def _as_dict(cell: Cell, store: Store) -> dict[str, Any]:
    return {
        "id": cell.id,
        "kind": cell.kind,
        "title": cell.title,
        "needs": {name: each.id for name, each in cell.needs.items()},
        "finished": store.is_finished(cell),
        "failure": store.failure(cell),
    }


def _cost_in_words(cost: Any) -> str:  # noqa: ANN401  (an Estimate)
    told = []
    if cost.known:
        size = f"{cost.bytes / 1e6:,.0f} MB"
        told.append(
            f"about {cost.seconds / 60:,.1f} minutes of one process and {size} for {cost.known} of them"
        )
    if cost.memory_mb:
        told.append(f"up to {cost.memory_mb:,} MiB of memory for a process")
    if cost.unknown:
        told.append(f"of {cost.unknown} the like was never made, so that their cost is unknown")
    return "; ".join(told) + "."


def _watched(outcomes: Any, total: int, *, silent: bool) -> Any:  # noqa: ANN401  (iterators of outcomes)
    from tqdm import tqdm  # noqa: PLC0415

    return tqdm(outcomes, total=total, desc="cells", disable=silent)


for command in (table, best, report, results, submit):
    study.add_command(command)
