"""What a study will cost, by the cells that were made before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .cells import Cell

#: What makes cells alike, the narrowest first: figures of the same work are better than of like work.
ALIKE = (
    ("model", "eraser", "preset", "attack", "effort", "control", "n_images", "suite"),
    ("model", "eraser", "attack", "n_images"),
    (),
)


@dataclass(frozen=True)
class Estimate:
    """Cost of the cells that are still to be made.

    Attributes:
        seconds, bytes: of those whose like was made before.
        known, unknown: how many cells that are, and of how many nothing is known.
    """

    seconds: float
    bytes: float
    known: int
    unknown: int


def estimate(cells: Sequence[Cell], manifests: Iterable[Mapping[str, Any]]) -> Estimate:
    """Sum of the median costs of earlier cells of the same kind, method and size.

    Args:
        cells: to be made.
        manifests: of cells that were made.
    """
    costs: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for record in manifests:
        for fields in ALIKE:
            key = _key(record["kind"], record["config"], fields)
            costs.setdefault(key, []).append((record["seconds"], record["bytes"]))
    seconds = size = 0.0
    known = 0
    for cell in cells:
        found = next((costs[key] for key in _keys(cell) if key in costs), None)
        if found is not None:
            known += 1
            seconds += median(cost[0] for cost in found)
            size += median(cost[1] for cost in found)
    return Estimate(seconds, size, known, len(cells) - known)


def _keys(cell: Cell) -> list[tuple[Any, ...]]:
    return [_key(cell.kind, cell.config, fields) for fields in ALIKE]


def _key(kind: str, config: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[Any, ...]:
    return (kind, fields, *(config.get(name) for name in fields))
