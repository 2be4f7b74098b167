"""The engine that lets Ray place cells on the processors of one machine or of a cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._util.errors import InputError, InputWarning
from .._util.text import reason
from ..testbeds.loading import LoadOptions
from .cell import Cell
from .engine import Outcome, attempt
from .estimate import estimate
from .store import Store

#: How often Ray starts an actor again whose process or machine was lost, and with it the cell that it made.
RETRIES = 3
#: Seconds after which actors that have nothing to do leave their room to others.
GRACE = 60


def on_ray(
    cells: Sequence[Cell],
    store: Store,
    options: LoadOptions,
    *,
    retry_failed: bool = False,
    address: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    memory_mb: int | None = None,
) -> Iterator[Outcome]:
    """Cells in Ray actors, each after those that it needs; their outcomes in the order in which they end.

    An actor makes many cells and keeps the base model that they share: a task on a GPU would get a process of
    its own for each cell, and load the model again. A cell that is made twice, by a retry or by another
    driver, is the same cell: the store keeps the first.

    Args:
        cells: each behind those that it needs.
        store: in a folder that all machines see under the same path.
        options: how models are loaded.
        retry_failed: try again what failed before.
        address: of a cluster; `RAY_ADDRESS`, if absent. Without either, Ray is started on this machine.
        num_cpus: that a cell needs.
        num_gpus: that a cell needs; a fraction lets several share one.
        memory_mb: that a process needs, in MiB; of earlier cells that are like those, if absent.

    Raises:
        InputError: Ray is not installed, there is no cluster at the address or it asks for a token, this
            machine has no room for a cell, or Ray was lost on it.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("The engine ray needs Ray: pip install 'sgrace[ray]'.")
    import ray  # noqa: PLC0415  (an extra)

    started = not ray.is_initialized()
    address = address or os.environ.get("RAY_ADDRESS")
    if started:
        _connect(address)
    if memory_mb is None:
        missing = [cell for cell in cells if not store.is_finished(cell)]
        memory_mb = estimate(missing, store.manifests()).memory_mb
    crew = _Crew(num_cpus, num_gpus, memory_mb)
    try:
        if started and not crew.room():
            needed = f"--cpus {num_cpus:g} --gpus {num_gpus:g} --memory {memory_mb}"
            if address is None:
                raise InputError(f"This machine has no room for a cell with {needed}.")
            told = f"No machine of the Ray cluster has room for a cell with {needed}: waiting for one."
            warnings.warn(told, InputWarning, stacklevel=2)
        yield from _made(cells, crew, (store, options, retry_failed))
    finally:
        if started:
            ray.shutdown()


def _made(cells: Sequence[Cell], crew: _Crew, given: tuple[Any, ...]) -> Iterator[Outcome]:
    """The cells' outcomes. Each goes to an actor when what it needs has ended."""
    waiting = {cell.id: cell for cell in cells}
    undone = set(waiting)
    while undone:
        for cell in list(waiting.values()):
            if undone.isdisjoint(need.id for need in cell.needs.values()):
                if not crew.start(cell, *given):
                    break
                del waiting[cell.id]
        for outcome in crew.ended():
            undone.remove(outcome.cell.id)
            yield outcome


class _Crew:
    """Actors that hold a base model each, as many as the machines have room for.

    Attributes:
        busy: cells that are being made and the actors that make them, by Ray's reference to the outcome.
        idle: actors without a cell, by the base model that they hold.
    """

    def __init__(self, num_cpus: float, num_gpus: float, memory_mb: int) -> None:
        import ray  # noqa: PLC0415  (an extra)

        memory = memory_mb * 2**20
        self.needs = {"CPU": num_cpus, "GPU": num_gpus, "memory": memory}
        # cells are retried as long as their actor is: while it waits for room they fail again and again
        self.maker: Any = ray.remote(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            max_restarts=RETRIES,
            max_task_retries=-1,
        )(_Maker)
        self.busy: dict[Any, tuple[Cell, Any]] = {}
        self.idle: dict[str, list[Any]] = defaultdict(list)

    def room(self) -> int:
        """How many actors all machines hold."""
        import ray  # noqa: PLC0415  (an extra)

        machines: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
        return sum(self._room_of(machine["Resources"]) for machine in machines if machine["Alive"])

    def _room_of(self, machine: Mapping[str, float]) -> int:
        shares = [machine.get(name, 0) / need for name, need in self.needs.items() if need]
        return int(min(shares, default=1) + 1e-6)

    def start(self, cell: Cell, *given: object) -> bool:
        """Let an actor make a cell; False where all have one."""
        actors = self.idle[cell.config["model"]]
        if not actors:
            there = len(self.busy) + sum(map(len, self.idle.values()))
            if there >= max(1, self.room()) and not self._dismiss(1):
                return False
            actors.append(self.maker.remote())
        actor = actors.pop()
        self.busy[actor.make.remote(cell, *given)] = cell, actor
        return True

    def ended(self) -> Iterator[Outcome]:
        """What became of a cell that has ended; none where nothing ends for a while.

        Actors that have nothing to do then leave: one whose machine was lost may wait for their room.
        """
        import ray  # noqa: PLC0415  (an extra)

        resting = any(self.idle.values())
        ready, _ = ray.wait(list(self.busy), timeout=GRACE if resting else None)
        if not ready:
            self._dismiss(len(self.busy))
        for reference in ready:
            cell, actor = self.busy.pop(reference)
            try:
                outcome: Outcome = ray.get(reference)
                self.idle[cell.config["model"]].append(actor)
            except ray.exceptions.RayError as error:  # the actor is of no more use
                outcome = _lost(error, cell)
            yield outcome

    def _dismiss(self, n: int) -> int:
        """End up to so many actors that have nothing to do; how many there were."""
        import ray  # noqa: PLC0415  (an extra)

        leaving = [(actors, actor) for actors in self.idle.values() for actor in actors][:n]
        for actors, actor in leaving:
            actors.remove(actor)
            ray.kill(actor)
        return len(leaving)


def _connect(address: str | None) -> None:
    """Connect to a cluster; without an address, start Ray on this machine.

    Raises:
        InputError: there is no cluster at the address, or it asks for a token.
    """
    import ray  # noqa: PLC0415  (an extra)

    _check_reachable(address)
    try:
        # without an address Ray would join this machine's last cluster, or wait for it where it is gone
        ray.init(
            address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
    except ConnectionError as error:
        where = repr(str(address)[:80])
        if "AuthenticationError" in str(error.__cause__):
            raise InputError(
                f"The Ray cluster at {where} asks for its token: set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN to the token unless ~/.ray/auth_token has it."
            ) from error
        raise InputError(f"There is no Ray cluster at {where}.") from error


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


class _Maker:
    """An actor: its process makes one cell after another, and keeps the model that they share."""

    def make(self, cell: Cell, store: Store, options: LoadOptions, retry_failed: bool) -> Outcome:
        return attempt(cell, store, options, retry_failed=retry_failed)


def _lost(error: Exception, cell: Cell) -> Outcome:
    """What became of a cell whose actor was lost more often than Ray tries.

    Raises:
        InputError: Ray itself was lost on this machine: every cell that is left would end in the same way.
    """
    import ray  # noqa: PLC0415  (an extra)

    if isinstance(error, ray.exceptions.LocalRayletDiedError):
        raise InputError(
            "Ray's own process on this machine (raylet) was lost, as when memory runs out. Finished cells "
            "are kept; the same command again goes on."
        ) from error
    why = f"{type(error).__name__}: its process was lost {RETRIES + 1} times"
    return Outcome(cell, "failed", why)
