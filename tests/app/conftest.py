"""A server whose only model is a tiny pipeline of random weights, for which nobody has words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgrace.app import typed
from sgrace.app.sessions import Sessions
from sgrace.app.shelf import Shelf
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..browser import browser
from ..conftest import tiny_pipeline

__all__ = ["browser"]

WORDS = {"owner": "", "related": "chapel", "protected": "dog\ntree\nboat\nhouse"}
WISH = {"model": "tiny", "concept": "church", "kind": "object", **WORDS, "effort": "look", "seed": 0}
SHORT = {"rounds": "1", "edit_steps": "2", "n_retain": "8", "retain_pool": "32", "num_inference_steps": "4"}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf({"tiny": StableDiffusion.from_pipeline(tiny_pipeline(), "tiny")})


@pytest.fixture(autouse=True, scope="session")
def short() -> Iterator[None]:
    """A quick look that is quicker still: what comes of it does not matter here."""
    look = typed.EFFORTS["look"]
    assert look.settings.keys() >= SHORT.keys()
    typed.EFFORTS["look"] = look._replace(settings={**look.settings, **SHORT})
    yield
    typed.EFFORTS["look"] = look


@pytest.fixture
def sessions(shelf: Shelf) -> Iterator[Sessions]:
    found = Sessions(shelf, limit=3)
    yield found
    found.close()
