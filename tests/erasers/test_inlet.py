"""Closed forms at the one layer through which prompt embeddings enter some families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.erasers._shared.prompts import PHRASINGS, last_word_embeds, tail_embeds
from sgrace.erasers.base import Eraser
from sgrace.erasers.uce import UCE
from sgrace.knowledge import Target
from sgrace.models import DiffusionModel

from ..families import PIPELINES, shared
from ..golden.record import WORDS
from .cases import CASES
from .made import CHURCH

TARGET = Target(CHURCH, WORDS)
WITH_INLET = ["stable_diffusion_3", "flux", "z_image"]
SAMPLING: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0}
#: Method -> its setting.
METHODS = {"uce": "site=inlet", "rece": "site=inlet", "speed": "matrices=inlet"}


def at_inlet(method: str, **more: str) -> Eraser[Any]:
    key, value = METHODS[method].split("=")
    eraser: Eraser[Any] = registry.load("erasers", method).preset(
        None, "object", {**CASES[method].short, key: value, **more}
    )
    return eraser


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", PIPELINES)
def test_it_runs_where_there_is_an_inlet_and_changes_its_matrix_alone(family: str, method: str) -> None:
    model = shared(family)
    plain = registry.load("erasers", method)
    if family not in WITH_INLET:
        assert plain.refusal(type(model)) == ""
        with pytest.raises(InputError, match="a UNet has several"):
            at_inlet(method).erase(model, [TARGET])
        return
    assert f"`--set {METHODS[method]}` runs" in plain.refusal(type(model))
    erasure = at_inlet(method).erase(model, [TARGET], seed=1)
    [(component, tensors)] = erasure.tensors.items()
    assert component == model.denoiser_component
    assert list(tensors) == [f"{name}.weight" for name in model.sites.layers("inlet")]
    before = model.generate(["a photo of church"], [1], **SAMPLING)
    after = erasure.apply(model).generate(["a photo of church"], [1], **SAMPLING)
    assert (after - before).abs().max() > 1e-5


def test_what_needs_keys_and_values_is_refused_without_a_way_out() -> None:
    reason = registry.load("erasers", "mace").refusal(type(shared("flux")))
    assert "key and value matrices" in reason
    assert "--set" not in reason


@torch.no_grad()
def given_to_inlet(model: DiffusionModel, text: str) -> Tensor:
    """What the layer reads in a call of the denoiser: ``(positions, width)``."""
    [layer] = model.sites.layers("inlet").values()
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _layer, inputs: found.append(inputs[0]))
    try:
        noise = torch.zeros(1, *model.latent_shape)
        model.predict(noise, torch.tensor([500.0]), model.encode([text]))
    finally:
        hook.remove()
    return found[0].flatten(0, -2)


def last_positions(model: DiffusionModel, text: str) -> list[int]:
    """Of the last content token, for each encoder that gives positions of its own."""
    if model.family == "stable_diffusion_3":
        ends = [(0, "clip_l"), (model.text["clip_l"].length, "t5")]
    else:
        ends = [(0, model.text.main.name)]
    return [first + max(int(model.text[name].tokenize([text]).end) - 1, 0) for first, name in ends]


@pytest.mark.parametrize("family", WITH_INLET)
def test_the_edit_minimises_its_loss_over_what_the_layer_really_reads(family: str) -> None:
    model = shared(family)
    more = {
        "replacement": "dog",
        "n_retain": "3",
        "retain_weight": "0.7",
        "erase_weight": "1.3",
        "ridge": "0.2",
    }
    eraser = UCE.preset(None, "object", {"site": "inlet", "positions": "last", **more})
    erasure = eraser.erase(model, [TARGET])
    [(name, layer)] = model.sites.layers("inlet").items()
    before = layer.weight.detach().double()
    after = erasure.tensors[model.denoiser_component][f"{name}.weight"].double()

    def rows(texts: list[str]) -> Tensor:
        each = [given_to_inlet(model, text)[last_positions(model, text)] for text in texts]
        return torch.cat(each).double()

    phrasings = PHRASINGS["object"]
    concept = rows([phrasing.format("church") for phrasing in phrasings])
    other = rows([phrasing.format("dog") for phrasing in phrasings])
    kept = rows(["dog", "tree", "boat"])
    # the gradient of 1.3 |W' c - W o|^2 + 0.7 |W' k - W k|^2 + 0.2 |W' - W|^2, halved
    gradient = 1.3 * (after @ concept.T - before @ other.T) @ concept
    gradient += 0.7 * (after - before) @ kept.T @ kept + 0.2 * (after - before)
    scale = (before @ other.T @ concept).abs().max()
    assert gradient.abs().max() < 1e-5 * scale
    assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("family", WITH_INLET)
def test_rows_are_those_of_every_encoder_with_positions_of_its_own(family: str) -> None:
    model = shared(family)
    texts = ["a photo of church", "dog", ""]
    found = last_word_embeds(model, texts)
    cond = model.encode(texts)
    for number, text in enumerate(texts):
        for stretch, position in enumerate(last_positions(model, text)):
            assert torch.equal(found[stretch * 3 + number], cond.prompt_embeds[number, position])
    # a text and itself: from the last content token to the end of each stretch
    pairs = tail_embeds(model, ["dog"], ["dog"])
    assert torch.equal(pairs.own, pairs.other)
    ends = [own.length for own in model.text.rows]
    starts = last_positions(model, "dog")
    firsts = [0, *ends][: len(ends)]
    tails = [cond.prompt_embeds[1, at : first + n] for at, first, n in zip(starts, firsts, ends, strict=True)]
    assert torch.equal(pairs.own, torch.cat(tails))


def test_the_biases_and_norms_of_an_inlet_are_no_matrices() -> None:
    sites = shared("z_image").sites
    assert len(sites.parameters("inlet")) > len(sites.matrices("inlet")) == 1
    assert isinstance(next(iter(sites.layers("inlet").values())), nn.Linear)
