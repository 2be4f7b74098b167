"""SPM: loss against the formula, what it retains, learning rate, cost, and adapters that prompts scale."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import Samples
from sgrace.erasers.spm import SPM, SPMConfig, random_conditioning, random_embeds, rate, spm_loss
from sgrace.erasure import Adapter, Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.models import Conditioning, DiffusionModel
from sgrace.models.adapters import LowRank, adapted, gated

from ..golden.record import state

CHURCH = Concept(name="church")
BOAT = Concept(name="boat")
LAYER = "mid_block.attentions.0.proj_out"
T500 = torch.tensor(500.0)


def test_loss_is_its_formula(model: DiffusionModel) -> None:
    generator = torch.Generator().manual_seed(0)
    name = model.sites.names("text_v")[0].removesuffix(".weight")
    adapter = LowRank(model.sites.layers("transformer")[name], 1, generator)
    nn.init.normal_(adapter.up, generator=generator)
    student = model.replace(denoiser=adapted(model.denoiser, {name: adapter}))
    length = model.text.main.length
    latents = model.noise(2, generator)
    targets = model.noise(2, generator)
    cond = Conditioning(torch.randn(2, length, 24, generator=generator))
    timesteps = torch.tensor([300.0, 700.0])
    retained = Conditioning(torch.randn(6, length, 24, generator=generator))
    loss = spm_loss(model, student, Samples(latents, timesteps, cond, targets, latents), retained, 5.0)

    def output(network: DiffusionModel, place: int, embeds: Tensor) -> Tensor:
        at = (latents[[place]], timesteps[place], embeds[None])
        result: Tensor = network.denoiser(*at).sample
        return result

    errors = [(output(student, i, cond.prompt_embeds[i]) - targets[[i]]).square().mean() for i in range(2)]
    expected = torch.stack(errors).mean()
    for j, embeds in enumerate(retained.prompt_embeds):
        moved = output(student, j // 3, embeds) - output(model, j // 3, embeds)
        expected = expected + 5.0 * moved.square().mean() / 6
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, adapter.up)
    assert gradient.abs().sum() > 0


def test_retained_embeds_are_as_long_as_the_concept_and_unlike_it() -> None:
    concept = torch.ones(1, 2, 3)
    found = random_embeds(concept, 2000, torch.Generator().manual_seed(0))
    lengths = found.flatten(1).norm(dim=1) / concept.norm()
    assert 0.8 <= lengths.min() < 0.85
    assert 1.15 < lengths.max() <= 1.2 + 1e-6
    likeness = torch.cosine_similarity(found.flatten(1), concept.flatten()[None])
    # cosines in six dimensions, weighted by min(1, 1 - cos): -E[cos^2; cos > 0] / (1 - E[cos; cos > 0])
    assert likeness.mean() == pytest.approx(-(1 / 12) / (1 - 0.3395 / 2), abs=0.03)


def test_retained_prompts_have_the_concepts_pooled_path() -> None:
    pooled = torch.arange(4.0)[None]
    concept = Conditioning(torch.ones(1, 2, 3), pooled)
    found = random_conditioning(concept, 3, torch.Generator().manual_seed(0))
    assert found.prompt_embeds.equal(random_embeds(torch.ones(1, 2, 3), 3, torch.Generator().manual_seed(0)))
    assert found.pooled is not None
    assert found.pooled.equal(pooled.expand(3, -1))


def test_learning_rate_rises_once_and_falls_in_cycles() -> None:
    config = SPMConfig(iterations=110, warm_up=50, cycles=3)
    rates = [rate(step, config) for step in (0, 25, 50, 60, 70, 90)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 1, 1])
    assert rate(65, config) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))
    assert rate(110, config) == 0


def test_it_makes_no_more_calls_than_it_needs(model: DiffusionModel, words: Knowledge) -> None:
    settings = {
        "iterations": "3",
        "batch": "2",
        "pool": "4",
        "num_inference_steps": "4",
        "n_retain": "2",
        "sample_from": "frozen",
    }
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    cost = SPM.preset("merged", "object", settings).erase(model, targets).recipe.cost
    assert cost.denoiser_rows is not None
    assert cost.denoiser_calls is not None
    # concept and retained, retained again by the teacher, two outputs for each sample
    fixed = 2 * (3 * (2 + 2 * 4) + 2 * 4)
    assert fixed <= cost.denoiser_rows <= fixed + 2 * 2 * 3 * 4, "a sample stops before its fourth step"
    assert 2 * (2 * 3 + 1) <= cost.denoiser_calls <= 2 * (2 * 3 + 1 + 3)
    assert cost.text_encoder_calls == 4
    layers = model.sites.layers("transformer").values()
    assert cost.trained_parameters == 2 * sum(len(m.weight) + m.weight[0].numel() for m in layers)


def test_the_merged_change_is_of_the_adapters_rank(model: DiffusionModel, words: Knowledge) -> None:
    settings = {"iterations": "3", "num_inference_steps": "3", "lr": "0.05", "warm_up": "0", "rank": "2"}
    erasure = SPM.preset(None, "object", settings).erase(model, [Target(CHURCH, words)])
    for name, value in erasure.tensors["unet"].items():
        change = (value - model.denoiser.get_parameter(name)).flatten(1)
        assert 1 <= torch.linalg.matrix_rank(change.double(), rtol=1e-4) <= 2


def test_kept_adapters_are_scaled_for_each_prompt(
    model: DiffusionModel, words: Knowledge, tmp_path: Path
) -> None:
    settings = {"iterations": "3", "num_inference_steps": "3", "lr": "0.05", "warm_up": "0"}
    target = Target(CHURCH, words)
    apart = SPM.preset(None, "object", {**settings, "keep_adapters": "true"}).erase(model, [target])
    together = SPM.preset(None, "object", settings).erase(model, [target]).apply(model)
    assert not apart.tensors
    apart.save_pretrained(tmp_path / "safe")
    before = state(model)
    safe = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    assert all(value.equal(before[name]) for name, value in state(model).items()), "the original is untouched"
    assert state(model).keys() == before.keys() < state(safe).keys(), "adapters count as weights"
    again = state(apart.apply(model))
    assert all(value.equal(again[name]) for name, value in state(safe).items())

    cond = model.encode([CHURCH.prompt])
    latents = model.initial_noise([1])
    expected = together.predict(latents, T500, cond)
    torch.testing.assert_close(safe.predict(latents, T500, cond), expected, atol=1e-5, rtol=1e-3)
    assert (expected - model.predict(latents, T500, cond)).abs().max() > 1e-3
    unlike = cond.with_embeds(-cond.prompt_embeds)
    both = Conditioning.cat([unlike, cond])  # each sample has a likeness of its own
    found = safe.predict(latents.repeat(2, 1, 1, 1), T500, both)
    torch.testing.assert_close(found[:1], model.predict(latents, T500, unlike), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(found[1:], expected, atol=1e-5, rtol=1e-3)
    named = safe.denoiser(latents, 500, encoder_hidden_states=cond.prompt_embeds).sample
    torch.testing.assert_close(named, expected, atol=1e-5, rtol=1e-3)


def test_half_the_likeness_is_half_the_change(model: DiffusionModel) -> None:
    shape = (1, model.text.main.length, 24)
    embeds = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    other = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    other = other - (other * embeds).sum() / embeds.square().sum() * embeds
    mixed = embeds / embeds.norm() + 3**0.5 * other / other.norm()  # a cosine of one half
    adapter = LowRank(model.sites.layers("transformer")[LAYER], 1, torch.Generator().manual_seed(2))
    nn.init.ones_(adapter.up)
    down = adapter.down.detach()
    up = adapter.up.detach()
    tensors = {"0/states": embeds[0], f"0/{LAYER}/down": down, f"0/{LAYER}/up": up}
    passed: list[tuple[Tensor, Tensor]] = []
    for denoiser in (model.denoiser, gated(model.sites, tensors)):
        layer = denoiser.get_submodule(LAYER)
        hook = layer.register_forward_hook(lambda _m, inputs, output: passed.append((inputs[0], output)))
        denoiser(model.initial_noise([1]), 500, mixed)
        hook.remove()
    plain, changed = passed
    torch.testing.assert_close(changed[1] - plain[1], 0.5 * adapter(plain[0]), atol=1e-5, rtol=1e-3)


def test_adapters_of_another_model_are_told(model: DiffusionModel, words: Knowledge) -> None:
    recipe = SPM.preset(None, "object", {"iterations": "0"}).erase(model, [Target(CHURCH, words)]).recipe
    for tensors in (
        {"0/states": torch.ones(2), f"0/{LAYER}/down": torch.ones(1, 3), f"0/{LAYER}/up": torch.ones(3, 1)},
        {"0/states": torch.ones(2), "0/nonsense/down": torch.ones(1), "0/nonsense/up": torch.ones(1)},
        {"0/states": torch.ones(2), "0/mid_block/down": torch.ones(1), "0/mid_block/up": torch.ones(1)},
        {"0/states": torch.ones(2), f"0/{LAYER}/down": torch.ones(1, 16, 1, 1)},
    ):
        made = Erasure(recipe=recipe, adapter=Adapter("gated", tensors))
        with pytest.raises(InputError, match="adapters do not fit"):
            made.apply(model, force=True)
