"""The engine that lets Ray place cells on the processors of one machine or of a cluster."""

from __future__ import annotations

import importlib.util
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from .._util.errors import InputError
from .._util.text import reason
from ..testbeds.loading import LoadOptions
from .cells import Cell
from .engine import Outcome, attempt, blocked
from .store import Store

#: How often Ray starts a cell again whose process or machine was lost.
RETRIES = 3


def on_ray(
    cells: Sequence[Cell],
    store: Store,
    options: LoadOptions,
    *,
    retry_failed: bool = False,
    address: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Iterator[Outcome]:
    """Cells as Ray tasks, each after those that it needs; their outcomes in the order in which they end.

    A process makes many cells and keeps the model that they share. A cell that is made twice, by a retry or
    by another driver, is the same cell: the store keeps the first.

    Args:
        cells: each behind those that it needs.
        store: in a folder that all machines see under the same path.
        options: how models are loaded.
        retry_failed: try again what failed before.
        address: of a cluster; Ray is started on this machine, and ended, if absent.
        num_cpus: that a cell needs.
        num_gpus: that a cell needs; a fraction lets several share one.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address, or Ray was lost on this machine.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("The engine ray needs Ray: pip install 'sgrace[ray]'.")
    import ray  # noqa: PLC0415  (an extra)

    started = not ray.is_initialized()
    if started:
        _check_reachable(address)
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise InputError(f"There is no Ray cluster at {str(address)[:80]!r}.") from error
    run: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=RETRIES)(_attempt)
    try:
        outcomes: dict[str, Any] = {}
        for cell in cells:
            needed = [outcomes[each.id] for each in cell.needs.values() if each.id in outcomes]
            outcomes[cell.id] = run.remote(cell, store, options, retry_failed, *needed)
        by_reference = {outcomes[cell.id]: cell for cell in cells}
        waiting = list(by_reference)
        while waiting:
            ready, waiting = ray.wait(waiting)
            yield _outcome(ready[0], by_reference[ready[0]], store)
    finally:
        if started:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Check that something answers at HOST:PORT: Ray itself would wait for minutes.

    Raises:
        InputError: nothing does.
    """
    if address is None or not re.fullmatch(r"[^/:]+:\d{1,5}", address):
        return
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"There is no Ray cluster at {address[:80]!r} ({reason(error)}).") from error


def _attempt(cell: Cell, store: Store, options: LoadOptions, retry_failed: bool, *needed: Outcome) -> Outcome:
    """What a worker does. ``needed`` is not read: Ray starts a task when what it is given is there."""
    del needed
    return attempt(cell, store, options, retry_failed=retry_failed)


def _outcome(reference: Any, cell: Cell, store: Store) -> Outcome:  # noqa: ANN401  (an extra without types)
    import ray  # noqa: PLC0415  (an extra)

    try:
        found: Outcome = ray.get(reference)
    except ray.exceptions.LocalRayletDiedError as error:
        # every cell that is left would end in the same way
        raise InputError(
            "Ray's own process on this machine (raylet) was lost, as when memory runs out. Finished cells "
            "are kept; the same command again goes on."
        ) from error
    except ray.exceptions.RayError as error:  # the process was lost more often than Ray tries
        # the same error comes for all cells that need this one
        why = f"{type(error).__name__}: its process was lost {RETRIES + 1} times"
        return blocked(cell, store) or Outcome(cell, "failed", why)
    return found
