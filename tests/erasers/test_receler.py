"""Receler: its adapters, its loss and its adversary against the formulas, its cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import Samples
from sgrace.erasers.receler import Adversary, Receler, RecelerConfig, outputs_of, outside
from sgrace.erasure import Adapter, Erasure
from sgrace.erasure.files import ADAPTER, read_adapter
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel
from sgrace.models.adapters import Bottleneck, bottlenecked, with_bottlenecks
from sgrace.models.attention import resized

from ..erasure.made import erasure
from .made import CHURCH, target

BOAT = Concept(name="boat")
SHORT = {
    "iterations": "3",
    "batch": "2",
    "pool": "4",
    "num_inference_steps": "4",
    "attack_steps": "2",
    "rank": "3",
    "lr": "0.01",
}


def widths(model: DiffusionModel) -> dict[str, int]:
    return {name: layer.width for name, layer in model.sites.text_attention().items()}


def filled(model: DiffusionModel) -> dict[str, Bottleneck]:
    generator = torch.Generator().manual_seed(0)
    adapters = {name: Bottleneck(width, 3, generator) for name, width in widths(model).items()}
    for adapter in adapters.values():
        nn.init.normal_(adapter.up, generator=generator)
        nn.init.normal_(adapter.up_bias, generator=generator)
    return adapters


def exact(value: Tensor) -> np.ndarray:
    return value.detach().double().numpy()


def test_adapters_change_the_outputs_of_the_layers_that_read_the_text(model: DiffusionModel) -> None:
    adapters = filled(model)
    networks = {"plain": model.denoiser, "adapted": with_bottlenecks(model.sites, adapters)}
    embeds = model.encode(["church"]).prompt_embeds
    latents = model.initial_noise([1])
    assert len(adapters) == 4
    layer = next(iter(adapters))
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> RemovableHandle:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name] = output

        return networks[name].get_submodule(layer).register_forward_hook(hook)

    hooks = [keep(name) for name in networks]
    with torch.no_grad(), outputs_of(adapters) as added:
        for network in networks.values():
            network(latents, 500, embeds)
    for hook in hooks:
        hook.remove()
    assert len(added) == 4
    h = exact(seen["plain"])
    z = h @ exact(adapters[layer].down).T + exact(adapters[layer].down_bias)
    gelu = z * 0.5 * (1 + torch.erf(torch.tensor(z) / 2**0.5).numpy())
    expected = h + gelu @ exact(adapters[layer].up).T + exact(adapters[layer].up_bias)
    np.testing.assert_allclose(seen["adapted"].numpy(), expected, atol=1e-4, rtol=1e-4)
    unchanged = with_bottlenecks(model.sites, {layer: Bottleneck(h.shape[-1], 3, torch.Generator())})
    first = unchanged(latents, 500, embeds).sample
    assert first.equal(model.denoiser(latents, 500, embeds).sample), "at first they add nothing"


def test_what_is_added_outside_of_the_mask_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    added = [torch.randn(2, places, 5, generator=generator) for places in (4, 16, 64)]
    mask = torch.rand(2, 1, 4, 4, generator=generator) > 0.6
    expected = 0.0
    for layer in added:
        free = 1 - resized(mask, int(layer.shape[1] ** 0.5)).flatten(1).double().numpy()
        expected += ((layer.double().numpy() * free[..., None]) ** 2).sum() / free.sum() / 3
    assert outside(added, mask).item() == pytest.approx(expected, rel=1e-5)
    assert outside(added, torch.ones_like(mask)).item() == 0, (
        "a concept that is everywhere leaves nothing outside"
    )


def test_the_adversary_stands_after_the_concept_and_brings_it_back(model: DiffusionModel) -> None:
    config = RecelerConfig(n_adversarial=4, attack_steps=20, attack_lr=0.05, attack_decay=0)
    adversary = Adversary(model, CHURCH, config, torch.Generator().manual_seed(0))
    assert adversary.vectors.min() >= 0
    assert adversary.vectors.max() <= 1
    main = model.text.main
    with torch.no_grad():
        cond = model.encode([CHURCH.prompt] * 2)
    own = cond.prompt_embeds
    end = int(main.tokenize([CHURCH.prompt]).end[0])
    named = list(range(end - len(main.content_tokens("church")), end))
    assert adversary.tokens[0].nonzero().flatten().tolist() == named
    moved = adversary.extend(cond)
    assert moved.source is None, "no text encoder made these prompt embeddings"
    assert moved.prompt_embeds[:, :end].equal(own[:, :end])
    assert moved.prompt_embeds[:, end + 4 :].equal(own[:, end + 4 :])
    assert moved.prompt_embeds[1, end : end + 4].equal(adversary.vectors)
    student = model.replace(denoiser=with_bottlenecks(model.sites, filled(model)))
    latents = model.initial_noise([1, 2])
    timesteps = torch.tensor([300.0, 700.0])
    with torch.no_grad():
        concept = model.predict(latents, timesteps, cond)
    samples = Samples(latents, timesteps, cond, concept, latents)

    def error() -> float:
        with torch.no_grad():
            output = student.predict(latents, timesteps, adversary.extend(cond))
        return (output - concept).square().mean().item()

    before = error()
    start = adversary.vectors.clone()
    adversary.attack(student, samples, concept)
    assert error() < before
    assert not adversary.vectors.equal(start), "it goes on from where it was"
    assert not adversary.vectors.requires_grad
    long = Adversary(model, CHURCH, RecelerConfig(n_adversarial=100), torch.Generator())
    assert long.extend(cond).prompt_embeds.shape == own.shape


@pytest.mark.parametrize("attack_steps", [0, 2])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, attack_steps: int
) -> None:
    settings = {**SHORT, "attack_steps": str(attack_steps)}
    both = [target(words), target(words, BOAT)]
    cost = Receler.preset(None, "object", settings).erase(model, both).recipe.cost
    assert cost.denoiser_rows is not None
    fixed = 3 * 2 * (2 + attack_steps + 2)  # original, adapters, adversary, two outputs for the targets
    assert fixed <= cost.denoiser_rows <= fixed + 2 * 3 * 2 * 3, (
        "a sample stops before its fourth guided step"
    )
    assert cost.text_encoder_calls == 4
    assert cost.trained_parameters == sum(2 * 3 * width + width + 3 for width in widths(model).values())


def test_the_saved_erasure_says_its_kind(model: DiffusionModel, words: Knowledge, tmp_path: Path) -> None:
    made = Receler.preset(None, "object", SHORT).erase(model, [target(words)])
    made.save_pretrained(tmp_path / "safe")
    file = tmp_path / "safe" / ADAPTER
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["kind"] == "bottleneck"
    read = Erasure.from_pretrained(tmp_path / "safe").adapter
    assert read is not None
    assert read.kind == "bottleneck"
    save_file(load_file(file), tmp_path / "other", metadata={"kind": "bottlenek"})
    with pytest.raises(InputError, match="did you mean 'bottleneck'"):
        read_adapter(tmp_path / "other")


def test_adapters_of_another_model_are_told(model: DiffusionModel) -> None:
    layer, width = next(iter(widths(model).items()))
    adapter = Bottleneck(width, 2, torch.Generator())
    whole = {f"{layer}/{name}": p.detach() for name, p in adapter.named_parameters()}
    bottlenecked(model.sites, whole)
    wrong: list[Mapping[str, Tensor]] = [
        {key.replace("attn2", "attn3"): value for key, value in whole.items()},
        {**whole, f"{layer}/up": torch.zeros(width + 1, 2)},
        {key: value for key, value in whole.items() if not key.endswith("/up")},
    ]
    for tensors in wrong:
        with pytest.raises(InputError, match="made for another model"):
            erasure(model, {}, Adapter("bottleneck", tensors)).apply(model)
