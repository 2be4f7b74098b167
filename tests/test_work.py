"""What erasers and attacks put through the networks: no gradient, row or memory that has no effect."""

from __future__ import annotations

from typing import Any

import pytest

from sgrace._util import registry
from sgrace.concept import Concept
from sgrace.erasers.base import Eraser
from sgrace.knowledge import Knowledge, Target

from .attacks.cases import CASES as ATTACKS
from .attacks.scenes import attack_of, scene_of
from .counted import counted_model
from .erasers.cases import CASES as ERASERS

#: Prompts that a sample has in one call: two under guidance, and four in STEREO's target.
PROMPTS = 4


@pytest.mark.parametrize("name", ERASERS)
def test_an_eraser_does_no_needless_work(words: Knowledge, name: str) -> None:
    model = counted_model()
    model.batch_size = 1
    eraser: Eraser[Any] = registry.load("erasers", name).preset(None, "object", ERASERS[name].short)
    erasure = eraser.erase(model, [Target(Concept(name="church"), words)], seed=1)

    for component, rows in (("unet", model.denoised), ("text_encoder", model.encoded)):
        own = dict(model.components[component].named_parameters()).keys()
        changed = erasure.tensors.get(component, {}).keys()
        assert rows.differentiable & own <= changed, "weights that stay as they are get no gradient"
        assert not rows.kept, "gradients of a step are gone before the next one needs memory"
    assert model.denoised.without_gradient <= PROMPTS, "what is only sampled goes through in batches"
    assert max(model.encoded.attacked.values(), default=1) == 1, "what an attack may not move is left out"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_asks_for_no_gradient_of_weights(words: Knowledge, name: str) -> None:
    model = counted_model()
    attack_of(name).run(scene_of(model, words), seed=3)
    assert not model.denoised.differentiable | model.encoded.differentiable


def test_the_attack_of_sgrace_goes_through_the_denoiser_in_pieces(words: Knowledge) -> None:
    model = counted_model()
    model.batch_size = 2
    settings = {**ERASERS["sgrace"].short, "n_adversarial": "8", "clean_share": "0.25"}
    eraser: Eraser[Any] = registry.load("erasers", "sgrace").preset(None, "object", settings)
    eraser.erase(model, [Target(Concept(name="church"), words)], seed=1)
    assert model.denoised.with_gradient == 2
    assert sum(model.denoised.attacked.values()) == 2 * 6, "two steps of the six samples that may move"
