"""Engines of a study: they make the cells that are missing. What is finished lies in the store alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from .._util.errors import InputError
from .._util.places import is_disk_fault
from .._util.text import reason
from ..testbeds.loading import LoadOptions
from .cell import Cell
from .cells import inputs_of
from .make import make
from .store import Store

Status = Literal["finished", "made", "failed", "blocked"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: the cell.
        status: ``finished`` before, ``made`` now, ``failed``, or ``blocked`` by one that failed.
        why: it failed or is blocked.
        seconds: that it took.
    """

    cell: Cell
    status: Status
    why: str = ""
    seconds: float = 0.0


def in_words(error: Exception) -> str:
    """What is told of an error: a sentence as it is, any other with its kind."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {reason(error)}"


def attempt(cell: Cell, store: Store, options: LoadOptions, *, retry_failed: bool = False) -> Outcome:
    """Make a cell if it is missing and all that it needs is there.

    Any error is noted in the store, so that it never stops the others.
    """
    started = time.monotonic()
    try:
        known = _known(cell, store, retry_failed=retry_failed)
        if known is not None:
            return known
        with store.making(cell) as folder:
            make(cell, store.path, folder, options)
    except Exception as error:  # noqa: BLE001  (one cell of many; whatever it is, it is reported)
        why = in_words(error)
        if not is_disk_fault(error):  # no fault of the cell: the next run tries it again
            with suppress(Exception):  # the store itself may be what fails; the outcome tells why
                store.fail(cell, why)
        return Outcome(cell, "failed", why, time.monotonic() - started)
    return Outcome(cell, "made", seconds=time.monotonic() - started)


def _known(cell: Cell, store: Store, *, retry_failed: bool) -> Outcome | None:
    """What became of a cell that is not made now; None if it can be made."""
    if store.is_finished(cell):
        return Outcome(cell, "finished")
    waits = blocked(cell, store)
    if waits is not None:
        return waits
    before = None if retry_failed else store.failure(cell)
    return None if before is None else Outcome(cell, "failed", before)


def blocked(cell: Cell, store: Store) -> Outcome | None:
    """That a cell cannot be made, as another one is missing; None if nothing is."""
    missing = next((each for each in cell.needs.values() if not store.is_finished(each)), None)
    return None if missing is None else Outcome(cell, "blocked", f"it needs: {missing.title}")


def inline(
    cells: Sequence[Cell], store: Store, options: LoadOptions, *, retry_failed: bool = False
) -> Iterator[Outcome]:
    """One cell after the other, in this process."""
    for cell in cells:
        yield attempt(cell, store, options, retry_failed=retry_failed)


def sharded(cells: Sequence[Cell], shard: tuple[int, int]) -> list[Cell]:
    """The cells of one of several shards: those of one eraser, concept and seed stay together.

    What several rows need belongs to the first shard that has one of them. In others, what needs it is
    blocked until it is there.

    Args:
        cells: of the study, each behind those that it needs.
        shard: its number from 1 on, and how many there are.
    """
    number, of = shard
    scores = [cell for cell in cells if cell.kind == "score"]
    owner: dict[str, int] = {}
    for i, score in enumerate(scores):
        for each in (*inputs_of(score), score):
            owner.setdefault(each.id, i % of)
    return [cell for cell in cells if owner.get(cell.id) == number - 1]
