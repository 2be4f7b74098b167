"""A cell of a study: one erasure, attack set, set of images, concept space or scoring."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .._util.hashing import sha256_of_json

CellKind = Literal["erasure", "attack", "images", "space", "score"]
ID_LENGTH = 20
#: Fields of a configuration that say where files lie; their digests stand beside them.
PLACES = {"model", "prompts_file", "words_file", "detector_places"}


@dataclass(frozen=True)
class Cell:
    """A piece of a study that is made once.

    Attributes:
        kind: what it makes.
        title: for people; it decides nothing.
        config: everything that decides the result beside the cells it needs, as JSON.
        needs: cells whose results it reads, by what they are to it.
    """

    kind: CellKind
    title: str
    config: Mapping[str, Any]
    needs: Mapping[str, Cell] = field(default_factory=dict)

    @functools.cached_property
    def id(self) -> str:
        """Digest of what decides the result."""
        return id_of(self.kind, self.config, {name: cell.id for name, cell in self.needs.items()})

    def __hash__(self) -> int:
        return hash(self.id)


def id_of(kind: str, config: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    """Digest of kind, configuration, and the cells that a cell needs. Where files lie does not count."""
    decisive = {name: value for name, value in config.items() if name not in PLACES}
    return sha256_of_json({"kind": kind, "config": decisive, "needs": needs})[:ID_LENGTH]
