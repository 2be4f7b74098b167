from __future__ import annotations

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.esd import ESD
from sgrace.erasure import Erasure, at_strength
from sgrace.knowledge import Knowledge, Target
from sgrace.models.families.stable_diffusion import StableDiffusion


@pytest.fixture
def erasure(model: StableDiffusion, words: Knowledge) -> Erasure:
    eraser = ESD.preset(None, "object", {"iterations": "2", "lr": "0.01"})
    return eraser.erase(model, [Target(Concept.parse("church", "object"), words)])


def test_the_ends_are_the_original_and_the_erased_model(model: StableDiffusion, erasure: Erasure) -> None:
    erased = erasure.apply(model)
    prompt = ["a photo of church"]
    drawn = [
        each.generate(prompt, [0], num_inference_steps=2)
        for each in (model, at_strength(erasure, model, 0), erased, at_strength(erasure, model, 1))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[3])
    assert not torch.equal(drawn[0], drawn[2])


def test_half_way_is_the_middle_and_no_erasure(model: StableDiffusion, erasure: Erasure) -> None:
    half = at_strength(erasure, model, 0.5)
    erased = erasure.apply(model)
    for component, changed in erasure.tensors.items():
        for name in changed:
            ends = [
                dict(each.components[component].named_parameters())[name].detach() for each in (model, erased)
            ]
            found = dict(half.components[component].named_parameters())[name]
            assert torch.allclose(found, torch.stack(ends).mean(0), atol=1e-6)
    assert half.erasures == ()
    assert len(erased.erasures) == 1


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_that_is_none_is_refused(
    model: StableDiffusion, erasure: Erasure, strength: float
) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        at_strength(erasure, model, strength)
