"""What a study will cost, by the cells that were made before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from .cell import Cell

#: What makes cells alike, the narrowest first: figures of the same work are better than of like work.
ALIKE = (
    ("model", "eraser", "preset", "settings", "attack", "effort", "control", "n_images", "suite"),
    ("model", "eraser", "preset", "attack", "effort", "control", "n_images", "suite"),
    ("model", "eraser", "attack", "n_images"),
    (),
)


@dataclass(frozen=True)
class Estimate:
    """Cost of the cells that are still to be made.

    Attributes:
        seconds, bytes: of those whose like was made before.
        memory_mb: largest memory of a process that made the like of any of them, in MiB; 0 if unknown.
        known, unknown: how many cells that are, and of how many nothing is known.
    """

    seconds: float
    bytes: float
    memory_mb: int
    known: int
    unknown: int


class _Cost(NamedTuple):
    """What a cell took that was made before."""

    seconds: float
    bytes: float
    memory_mb: int


def estimate(cells: Sequence[Cell], manifests: Iterable[Mapping[str, Any]]) -> Estimate:
    """Sum of the median costs of earlier cells of the same kind, method and size, and their largest memory.

    Args:
        cells: to be made.
        manifests: of cells that were made.
    """
    costs: dict[tuple[Any, ...], list[_Cost]] = {}
    for record in manifests:
        # manifests had no memory once
        cost = _Cost(record["seconds"], record["bytes"], record.get("peak_memory_mb", 0))
        for fields in ALIKE:
            costs.setdefault(_key(record["kind"], record["config"], fields), []).append(cost)
    alike = [next((costs[key] for key in _keys(cell) if key in costs), None) for cell in cells]
    known = [found for found in alike if found is not None]
    return Estimate(
        seconds=sum(median(cost.seconds for cost in found) for found in known),
        bytes=sum(median(cost.bytes for cost in found) for found in known),
        memory_mb=max((cost.memory_mb for found in known for cost in found), default=0),
        known=len(known),
        unknown=len(cells) - len(known),
    )


def _keys(cell: Cell) -> list[tuple[Any, ...]]:
    return [_key(cell.kind, cell.config, fields) for fields in ALIKE]


def _key(kind: str, config: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[Any, ...]:
    # as text: a manifest that was edited may hold anything
    return (kind, fields, *(str(config.get(name)) for name in fields))
