"""Images of other sizes, and negative prompts, are those of the official pipelines."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.models.sizes import with_size

from ..families import PIPELINES, drawn, shared

PROMPTS = ["a photo of church", "dog"]
SIZE = {"height": 24, "width": 16}
HOW: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.5}


@pytest.mark.parametrize("family", PIPELINES)
def test_another_size(family: str) -> None:
    model = shared(family)
    found = with_size(model, **SIZE).generate(PROMPTS, [1, 2], **HOW)
    assert found.shape == (2, 3, 24, 16)
    wanted = drawn(model.pipeline, model, PROMPTS, [1, 2], **HOW, **SIZE)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert model.latent_size is None


@pytest.mark.parametrize("family", [name for name in PIPELINES if name != "flux"])
def test_a_negative_prompt(family: str) -> None:
    model = shared(family)
    found = model.generate(PROMPTS, [1, 2], negative_prompt="a dog", **HOW)
    wanted = drawn(model.pipeline, model, PROMPTS, [1, 2], negative_prompt=["a dog"] * 2, **HOW)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert (found - model.generate(PROMPTS, [1, 2], **HOW)).abs().max() > 1e-3


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(InputError, match="guides itself"):
        shared("flux").generate(PROMPTS, [1, 2], negative_prompt="a dog", **HOW)
    with pytest.raises(InputError, match="multiples of 4 pixels; 30 is none, 32 is the nearest"):
        with_size(shared("stable_diffusion"), 16, 30)
    with pytest.raises(InputError, match="multiples of 8 pixels; 20 is none"):
        with_size(shared("stable_diffusion_3"), 20, None)
    # more than a process can address, so that no machine tries
    with pytest.raises(InputError, match="Out of memory"):
        with_size(shared("stable_diffusion"), 4 * 10**7, 4 * 10**7).generate(PROMPTS, [1, 2], **HOW)
    model = shared("stable_diffusion")
    assert with_size(model, None, None) is model
    assert with_size(model, None, 32).latent_shape == (3, 4, 8)
