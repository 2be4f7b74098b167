"""A server whose only model is a tiny pipeline of random weights, for which nobody has words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgrace.app.sessions import Sessions
from sgrace.app.shelf import Shelf
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..browser import browser
from ..conftest import tiny_pipeline

__all__ = ["browser"]

WORDS = {"owner": "", "related": "chapel", "protected": "dog\ntree\nboat\nhouse"}
WISH = {"model": "tiny", "concept": "church", "kind": "object", **WORDS, "effort": "look", "seed": 0}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf({"tiny": StableDiffusion.from_pipeline(tiny_pipeline(), "tiny")})


@pytest.fixture
def sessions(shelf: Shelf) -> Iterator[Sessions]:
    found = Sessions(shelf, limit=3)
    yield found
    found.close()
