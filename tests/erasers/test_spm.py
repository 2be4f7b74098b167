"""SPM: its loss against the formula, its anchors and learning rate, its cost."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from sgrace._util.errors import InputError
from sgrace.api import fingerprint
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import Samples
from sgrace.erasers.spm import SPM, SPMConfig, anchor_states, rate, spm_loss
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion
from sgrace.models.adapters import LowRank, adapted, gated

CHURCH = Concept(name="church")


def test_loss_is_its_formula(model: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    name = next(n for n, m in model.pipeline.unet.named_modules() if n.endswith("attn2.to_v"))
    adapter = LowRank(model.pipeline.unet.get_submodule(name), 1, generator)
    nn.init.normal_(adapter.up, generator=generator)
    student = model.with_unet(adapted(model.pipeline.unet, {name: adapter}))
    latents, targets = (torch.randn(2, *model.latent_shape, generator=generator) for _ in range(2))
    states, timesteps = torch.randn(2, model.text_length, 24, generator=generator), torch.tensor([300, 700])
    anchors = torch.randn(6, model.text_length, 24, generator=generator)
    loss = spm_loss(model, student, Samples(latents, timesteps, states, targets, latents), anchors, 5.0)
    old, new = model.pipeline.unet, student.pipeline.unet
    expected = sum(((new(latents[[i]], timesteps[i], states[[i]]).sample - targets[[i]]) ** 2).mean() for i in range(2)) / 2
    for j in range(6):
        at = (latents[[j // 3]], timesteps[j // 3], anchors[[j]])
        expected = expected + 5.0 * ((new(*at).sample - old(*at).sample) ** 2).mean() / 6
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    loss.backward()
    assert adapter.up.grad is not None
    assert adapter.up.grad.abs().sum() > 0


def test_anchors_are_as_long_as_the_concept_and_unlike_it() -> None:
    concept = torch.ones(1, 2, 3)
    found = anchor_states(concept, 2000, torch.Generator().manual_seed(0))
    lengths = found.flatten(1).norm(dim=1) / concept.norm()
    assert 0.8 <= lengths.min() < 0.85
    assert 1.15 < lengths.max() <= 1.2 + 1e-6
    likeness = torch.cosine_similarity(found.flatten(1), concept.flatten()[None])
    # cosines in six dimensions, weighted by min(1, 1 - cos): -E[cos^2; cos > 0] / (1 - E[cos; cos > 0])
    assert likeness.mean() == pytest.approx(-(1 / 12) / (1 - 0.3395 / 2), abs=0.03)


def test_learning_rate_rises_once_and_falls_in_cycles() -> None:
    config = SPMConfig(iterations=110, warm_up=50, cycles=3)
    assert [rate(step, config) for step in (0, 25, 50, 60, 70, 90)] == pytest.approx([0, 0.5, 1, 0.5, 1, 1])
    assert rate(65, config) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))
    assert rate(110, config) == 0


def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge) -> None:
    settings = {"iterations": "3", "batch": "2", "pool": "4", "num_inference_steps": "4", "n_anchors": "2", "sample_from": "frozen"}
    concepts = [CHURCH, Concept(name="boat")]
    erasure = SPM.preset("merged", "object", settings).erase(model, concepts, [words, words])
    cost = erasure.recipe["cost"]
    fixed = 2 * (3 * (2 + 2 * 4) + 2 * 4)  # concept and anchors, anchors again by the teacher, two outputs for each sample
    assert fixed <= cost["unet_rows"] <= fixed + 2 * 2 * 3 * 4, "a sample stops before its fourth guided step"
    assert 2 * (2 * 3 + 1) <= cost["unet_calls"] <= 2 * (2 * 3 + 1 + 3)
    assert cost["text_encoder_calls"] == 4
    layers = [m for n, m in model.pipeline.unet.named_modules() if ".attentions." in n and isinstance(m, nn.Linear | nn.Conv2d)]
    assert cost["trained_parameters"] == 2 * sum(len(m.weight) + m.weight[0].numel() for m in layers)


def test_the_merged_change_is_of_the_adapters_rank(model: StableDiffusion, words: Knowledge) -> None:
    settings = {"iterations": "3", "num_inference_steps": "3", "lr": "0.05", "warm_up": "0", "rank": "2"}
    erasure = SPM.preset(None, "object", settings).erase(model, [CHURCH], [words])
    for name, value in erasure.unet.items():
        change = (value - model.pipeline.unet.get_parameter(name)).flatten(1)
        assert 1 <= torch.linalg.matrix_rank(change.double(), rtol=1e-4) <= 2


def test_kept_adapters_are_scaled_for_each_prompt(model: StableDiffusion, words: Knowledge, tmp_path: Path) -> None:
    settings = {"iterations": "3", "num_inference_steps": "3", "lr": "0.05", "warm_up": "0"}
    apart = SPM.preset(None, "object", {**settings, "keep_adapters": "true"}).erase(model, [CHURCH], [words])
    together = SPM.preset(None, "object", settings).erase(model, [CHURCH], [words]).apply(model)
    assert not apart.unet
    apart.save_pretrained(tmp_path / "safe")
    before = fingerprint(model)
    safe = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    assert fingerprint(model) == before != fingerprint(safe), "the original is untouched; adapters count as weights"
    assert fingerprint(safe) == fingerprint(apart.apply(model))

    states = model.encode(model.tokenize([CHURCH.prompt]).ids)
    latents = model.initial_noise([1])
    wanted = together.predict(latents, 500, states)
    torch.testing.assert_close(safe.predict(latents, 500, states), wanted, atol=1e-5, rtol=1e-3)
    assert (wanted - model.predict(latents, 500, states)).abs().max() > 1e-3
    unlike = torch.cat([-states, states])  # each row has a likeness of its own
    rows = safe.predict(latents.repeat(2, 1, 1, 1), 500, unlike)
    torch.testing.assert_close(rows[:1], model.predict(latents, 500, -states), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(rows[1:], wanted, atol=1e-5, rtol=1e-3)
    named = safe.pipeline.unet(latents, 500, encoder_hidden_states=states).sample
    torch.testing.assert_close(named, wanted, atol=1e-5, rtol=1e-3)


def test_half_the_likeness_is_half_the_change(model: StableDiffusion) -> None:
    layer = "mid_block.attentions.0.proj_out"
    states = torch.randn(1, model.text_length, 24, generator=torch.Generator().manual_seed(0))
    other = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    other = other - (other * states).sum() / states.square().sum() * states
    mixed = states / states.norm() + 3**0.5 * other / other.norm()  # a cosine of one half
    adapter = LowRank(model.pipeline.unet.get_submodule(layer), 1, torch.Generator().manual_seed(2))
    nn.init.ones_(adapter.up)
    tensors = {"0/states": states[0], f"0/{layer}/down": adapter.down.detach(), f"0/{layer}/up": adapter.up.detach()}
    outputs = []
    for unet in (model.pipeline.unet, gated(model.pipeline.unet, tensors)):
        hook = unet.get_submodule(layer).register_forward_hook(lambda _m, inputs, output: outputs.append((inputs[0], output)))
        unet(model.initial_noise([1]), 500, mixed)
        hook.remove()
    torch.testing.assert_close(outputs[1][1] - outputs[0][1], 0.5 * adapter(outputs[0][0]), atol=1e-5, rtol=1e-3)


def test_adapters_of_another_model_are_told(model: StableDiffusion) -> None:
    layer = "mid_block.attentions.0.proj_out"
    for tensors in (
        {"0/states": torch.ones(2), f"0/{layer}/down": torch.ones(1, 3), f"0/{layer}/up": torch.ones(3, 1)},
        {"0/states": torch.ones(2), "0/nonsense/down": torch.ones(1), "0/nonsense/up": torch.ones(1)},
        {"0/states": torch.ones(2), "0/mid_block/down": torch.ones(1), "0/mid_block/up": torch.ones(1)},
    ):
        with pytest.raises(InputError, match="adapters do not fit"):
            Erasure({}, None, adapter=tensors).apply(model)
