"""What a family cannot offer is refused before any work."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.erasers.base import Eraser, Need
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..families import PIPELINES, precision_of_run, shared
from ..golden.record import state
from .cases import CASES
from .test_contract import CHURCH, changed, tiny_model

#: Random T5 and language models find all words alike, so no replacement is far enough from the concept.
CHOSEN = {"sgrace": {"replacement": "house"}}
SHORT: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0}


class ApartDiffusion(StableDiffusion):
    """A family in which not all key and value matrices read the same prompt embeddings."""

    lacks = frozenset({Need.SHARED_TEXT_KV})


@pytest.mark.parametrize("name", CASES)
def test_a_closed_form_refuses_a_family_whose_matrices_read_different_texts(name: str) -> None:
    method: type[Eraser[Any]] = registry.load("erasers", name)
    assert method.refusal(StableDiffusion) == ""
    if Need.SHARED_TEXT_KV not in method.needs:
        assert method.refusal(ApartDiffusion) == ""
        return
    model = tiny_model(family=ApartDiffusion)
    with pytest.raises(InputError, match="read the same prompt embeddings") as refused:
        method.preset(None, "object", CASES[name].short).erase(model, [CHURCH])
    assert name in str(refused.value)
    assert method.refusal(ApartDiffusion) in str(refused.value)
    assert model.calls.text_encoder_calls == 0


@cache
def original(family: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of a family's small model, and an image."""
    model = shared(family, dtype)
    return state(model), model.generate(["a photo of church"], [1], **SHORT)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", [name for name in PIPELINES if name != "stable_diffusion"])
def test_an_eraser_runs_on_a_family_or_is_refused_with_the_reason(family: str, name: str) -> None:
    eraser = registry.load("erasers", name).preset(
        None, "object", {**CASES[name].short, **CHOSEN.get(name, {})}
    )
    dtype = precision_of_run(eraser, family, list(CASES).index(name))
    model = shared(family, dtype)
    if reason := eraser.refusal(type(model), dtype):
        with pytest.raises(InputError, match=f"{name} cannot erase from {family}: {reason}"):
            eraser.erase(model, [CHURCH])
        return
    before, image = original(family, dtype)
    safe = eraser.erase(model, [CHURCH], seed=1).apply(model)
    assert not changed(before, state(model)), "the original is untouched"
    assert changed(before, state(safe))
    after = safe.generate(["a photo of church"], [1], **SHORT)
    assert after.isfinite().all()
    assert (after - image).abs().max() > 1e-5
