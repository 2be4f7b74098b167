"""Receler: its adapters, its loss and its adversary against the formulas, its cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import Samples
from sgrace.erasers.receler import Adversary, Receler, RecelerConfig, outputs_of, outside
from sgrace.erasure import Erasure
from sgrace.erasure.erasure import ADAPTER, adapter_kind
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion
from sgrace.models.adapters import Bottleneck, attention_layers, bottlenecked, with_bottlenecks
from sgrace.models.attention import resized

CHURCH, BOAT = Concept(name="church"), Concept(name="boat")
SHORT = {"iterations": "3", "batch": "2", "pool": "4", "num_inference_steps": "4", "attack_steps": "2", "rank": "3", "lr": "0.01"}


def filled(model: StableDiffusion) -> dict[str, Bottleneck]:
    generator = torch.Generator().manual_seed(0)
    adapters = {name: Bottleneck(width, 3, generator) for name, width in attention_layers(model.pipeline.unet).items()}
    for adapter in adapters.values():
        nn.init.normal_(adapter.up, generator=generator)
        nn.init.normal_(adapter.up_bias, generator=generator)
    return adapters


def test_adapters_change_the_outputs_of_cross_attention(model: StableDiffusion) -> None:
    unet, adapters = model.pipeline.unet, filled(model)
    student = with_bottlenecks(unet, adapters)
    states, latents = model.encode(model.tokenize(["church"]).ids), model.initial_noise([1])
    assert len(adapters) == 4
    layer = next(iter(adapters))
    seen: dict[str, list[torch.Tensor]] = {"plain": [], "adapted": []}
    hooks = [
        network.get_submodule(layer).register_forward_hook(lambda _m, _i, output, name=name: seen[name].append(output))
        for name, network in (("plain", unet), ("adapted", student))
    ]
    with torch.no_grad(), outputs_of(adapters) as added:
        unet(latents, 500, states)
        student(latents, 500, states)
    for hook in hooks:
        hook.remove()
    assert len(added) == 4
    h, down, up = (x.detach().double().numpy() for x in (seen["plain"][0], adapters[layer].down, adapters[layer].up))
    z = h @ down.T + adapters[layer].down_bias.detach().double().numpy()
    gelu = z * 0.5 * (1 + torch.erf(torch.tensor(z) / 2**0.5).numpy())
    expected = h + gelu @ up.T + adapters[layer].up_bias.detach().double().numpy()
    np.testing.assert_allclose(seen["adapted"][0].numpy(), expected, atol=1e-4, rtol=1e-4)
    unchanged = with_bottlenecks(unet, {layer: Bottleneck(h.shape[-1], 3, torch.Generator())})
    assert unchanged(latents, 500, states).sample.equal(unet(latents, 500, states).sample), "at first they add nothing"


def test_what_is_added_outside_of_the_mask_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    added = [torch.randn(2, pixels, 5, generator=generator) for pixels in (4, 16, 64)]
    mask = torch.rand(2, 1, 4, 4, generator=generator) > 0.6
    expected = 0.0
    for layer in added:
        free = 1 - resized(mask, int(layer.shape[1] ** 0.5)).flatten(1).double().numpy()
        expected += ((layer.double().numpy() * free[..., None]) ** 2).sum() / free.sum() / 3
    assert outside(added, mask).item() == pytest.approx(expected, rel=1e-5)
    assert outside(added, torch.ones_like(mask)).item() == 0, "a concept that is everywhere leaves nothing outside"


def test_the_adversary_stands_after_the_concept_and_brings_it_back(model: StableDiffusion) -> None:
    config = RecelerConfig(n_adversarial=4, attack_steps=20, attack_lr=0.05, attack_decay=0)
    adversary = Adversary(model, CHURCH, config, torch.Generator().manual_seed(0))
    assert adversary.vectors.min() >= 0
    assert adversary.vectors.max() <= 1
    with torch.no_grad():
        states = model.encode(model.tokenize([CHURCH.prompt] * 2).ids)
    end = int(model.tokenize([CHURCH.prompt]).end[0])
    assert adversary.tokens[0].nonzero().flatten().tolist() == list(range(end - len(model.content_tokens("church")), end))
    moved = adversary.states(states)
    assert moved[:, :end].equal(states[:, :end])
    assert moved[:, end + 4 :].equal(states[:, end + 4 :])
    assert moved[1, end : end + 4].equal(adversary.vectors)
    student = model.with_unet(with_bottlenecks(model.pipeline.unet, filled(model)))
    latents, timesteps = model.initial_noise([1, 2]), torch.tensor([300, 700])
    concept = model.predict(latents, timesteps, states)
    samples = Samples(latents, timesteps, states, concept, latents)

    def error() -> float:
        with torch.no_grad():
            return (student.predict(latents, timesteps, adversary.states(states)) - concept).square().mean().item()

    before, start = error(), adversary.vectors.clone()
    adversary.attack(student, samples, concept)
    assert error() < before
    assert not adversary.vectors.equal(start), "it goes on from where it was"
    assert not adversary.vectors.requires_grad
    long = Adversary(model, CHURCH, RecelerConfig(n_adversarial=100), torch.Generator())
    assert long.states(states).shape == states.shape


@pytest.mark.parametrize("attack_steps", [0, 2])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, attack_steps: int) -> None:
    settings = {**SHORT, "attack_steps": str(attack_steps)}
    erasure = Receler.preset(None, "object", settings).erase(model, [CHURCH, BOAT], [words, words])
    cost = erasure.recipe["cost"]
    fixed = 3 * 2 * (2 + attack_steps + 2)  # original, adapters, adversary, two outputs for the targets
    assert fixed <= cost["unet_rows"] <= fixed + 2 * 3 * 2 * 3, "a sample stops before its fourth guided step"
    assert cost["text_encoder_calls"] == 4
    widths = attention_layers(model.pipeline.unet).values()
    assert cost["trained_parameters"] == sum(2 * 3 * width + width + 3 for width in widths)


def test_the_artefact_says_its_kind(model: StableDiffusion, words: Knowledge, tmp_path: Path) -> None:
    Receler.preset(None, "object", SHORT).erase(model, [CHURCH], [words]).save_pretrained(tmp_path / "safe")
    file = tmp_path / "safe" / ADAPTER
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"kind": "bottleneck"}
    assert Erasure.from_pretrained(tmp_path / "safe").adapter_kind == "bottleneck"
    save_file(load_file(file), tmp_path / "other", metadata={"kind": "bottlenek"})
    with pytest.raises(InputError, match="did you mean 'bottleneck'"):
        adapter_kind(tmp_path / "other")


def test_adapters_of_another_model_are_told(model: StableDiffusion) -> None:
    layer, width = next(iter(attention_layers(model.pipeline.unet).items()))
    whole = {f"{layer}/{name}": p.detach() for name, p in Bottleneck(width, 2, torch.Generator()).named_parameters()}
    bottlenecked(model.pipeline.unet, whole)
    for tensors in (
        {key.replace("attn2", "attn3"): value for key, value in whole.items()},
        {**whole, f"{layer}/up": torch.zeros(width + 1, 2)},
        {key: value for key, value in whole.items() if not key.endswith("/up")},
    ):
        with pytest.raises(InputError, match="adapters do not fit"):
            Erasure({}, None, adapter=tensors, adapter_kind="bottleneck").apply(model)
