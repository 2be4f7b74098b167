"""MACE: attention maps against the layers' arithmetic, loss and closed form against the formulas, cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sgrace.concept import Concept
from sgrace.erasers._shared.closed_form import FusionTerm, fuse_matrices
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers.mace import MACE, MACEConfig
from sgrace.erasers.mace.adapters import attention_loss, timestep_chances
from sgrace.erasers.mace.prompts import Phrase, concept_tokens, other_embeds, phrases_of
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.models.adapters import LowRank, adapted
from sgrace.models.attention import attention_maps, resized, token_mask

CHURCH = Concept(name="church")
BOAT = Concept(name="boat")
SHORT = {"iterations": "3", "batch": "2", "n_images": "20", "num_inference_steps": "4", "n_prompts": "5"}
T500 = torch.tensor(500.0)


def test_maps_are_the_ones_that_the_layer_used(model: DiffusionModel) -> None:
    cond = model.encode(["church", "a dog"])
    latents = model.initial_noise([1, 2])
    layers = [layer for name, layer in model.denoiser.named_modules() if name.endswith("attn2")]
    outputs: list[Tensor] = []
    values: list[Tensor] = []
    hooks = []
    for layer in layers:
        into_last = layer.to_out[0].register_forward_pre_hook(lambda _m, inputs: outputs.append(inputs[0]))
        hooks.append(into_last)
        hooks.append(layer.to_v.register_forward_hook(lambda _m, _i, output: values.append(output)))
    plain = model.predict(latents, T500, cond)
    outputs.clear()
    values.clear()
    with attention_maps(model) as maps:
        assert model.predict(latents, T500, cond).equal(plain)
    for hook in hooks:
        hook.remove()
    assert len(maps) == len(layers) == 4
    for weights, value, output in zip(maps, values, outputs, strict=True):
        heads = value.view(*value.shape[:2], weights.shape[1], -1).transpose(1, 2)
        torch.testing.assert_close((weights @ heads).transpose(1, 2).flatten(2), output, atol=1e-5, rtol=1e-4)
    model.predict(latents, T500, cond)
    assert len(maps) == 4, "nothing is read after the block"


def test_a_mask_is_where_the_scaled_mean_map_is_high() -> None:
    sizes = (4, 16, 16, 64)
    maps = [torch.rand(2, 3, size, 5, generator=torch.Generator().manual_seed(size)) for size in sizes]
    tokens = torch.tensor([[False, True, True, False, False], [False, False, False, True, False]])
    found = token_mask(maps, tokens, 0.4)
    for i, places in enumerate(([1, 2], [3])):
        mean = np.stack([m[i].numpy() for m in maps[1:3]]).mean((0, 1))[:, places].mean(1)
        scaled = (mean - mean.min()) / (mean.max() - mean.min())
        assert (found[i].flatten().numpy() == (scaled >= 0.4)).all()
    one = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    one[0, 0, 1, 2] = True
    assert resized(one, 2).tolist() == [[[[0, 1], [0, 0]]]]
    assert resized(one, 8).sum() == 4


def test_loss_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 3, size, 5, generator=generator) for size in (4, 16)]
    masks = torch.rand(2, 1, 4, 4, generator=generator) > 0.7
    tokens = torch.tensor([[False, True, True, False, False], [False, False, False, True, False]])
    expected = 0.0
    for i in range(2):
        for layer in maps:
            side = int(layer.shape[2] ** 0.5)
            inside = resized(masks[i : i + 1], side).flatten().bool()
            expected += layer[i][:, inside][:, :, tokens[i]].square().sum().sqrt().item() / 2
    assert attention_loss(maps, masks, tokens).item() == pytest.approx(expected, rel=1e-5)


def test_adapters_add_their_change_to_the_weights(model: DiffusionModel) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = model.sites.layers("transformer")
    adapters = {name: LowRank(layer, 2, generator) for name, layer in layers.items()}
    cond = model.encode(["church"])
    latents = model.initial_noise([1])
    beside = model.replace(denoiser=adapted(model.denoiser, adapters))
    plain = model.predict(latents, T500, cond)
    assert beside.predict(latents, T500, cond).equal(plain), "at first they add nothing"
    for adapter in adapters.values():
        nn.init.normal_(adapter.up, std=0.1, generator=generator)
    merged = {f"{n}.weight": layers[n].weight + a.change().detach() for n, a in adapters.items()}
    expected = model.with_components({model.denoiser_component: merged}).predict(latents, T500, cond)
    found = beside.predict(latents, T500, cond)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert (found - plain).abs().max() > 1e-3
    assert model.predict(latents, T500, cond).equal(plain), "the original has none"


def test_fusion_minimises_its_objective() -> None:
    rng = np.random.default_rng(0)
    before = [torch.tensor(rng.normal(size=(m, 6))) for m in (4, 3)]
    terms = []
    for n, weight in ((5, 1.0), (9, 0.3)):
        inputs = torch.tensor(rng.normal(size=(n, 6)))
        matrices = [torch.tensor(rng.normal(size=w.shape)) for w in before]
        terms.append(FusionTerm(inputs, matrices, weight))
    for i, (w, found) in enumerate(zip(before, fuse_matrices(before, terms, 0.2), strict=True)):
        rows = np.vstack([*(np.sqrt(e.weight) * e.inputs.numpy() for e in terms), np.sqrt(0.2) * np.eye(6)])
        wanted = [np.sqrt(e.weight) * e.inputs.numpy() @ e.matrices[i].numpy().T for e in terms]
        answers = np.vstack([*wanted, np.sqrt(0.2) * w.numpy().T])
        reference = np.linalg.lstsq(rows, answers, rcond=None)[0].T
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-10)


def test_phrases_know_where_the_concept_is(model: DiffusionModel, words: Knowledge) -> None:
    config = MACEConfig(replacement="a house", words="related")
    phrases = phrases_of(model, config, Target(CHURCH, words), torch.Generator().manual_seed(0))
    assert phrases[0] == Phrase("church", 1, 2, "a house", 3)
    assert Phrase("an image of chapel", 4, 5, "an image of a house", 6) in phrases
    length = model.text.main.length
    row = concept_tokens(phrases[:1], length)[0]
    assert row.nonzero().flatten().tolist() == [1]
    texts = Texts(model, ["church", "a house"])
    pairs = other_embeds(texts, phrases[:1])
    church, house = texts(["church", "a house"]).prompt_embeds
    n = length - 3
    assert pairs.own.equal(torch.cat([church[:1], church[2 : 2 + n]]))
    assert pairs.other.equal(torch.cat([house[:1], house[3:]]))


def test_important_timesteps_lie_between_a_fifth_and_two_fifths() -> None:
    chances = timestep_chances(1000, importance=True)
    assert chances[200:401].sum() / chances.sum() > 0.85
    assert chances[300] == pytest.approx(1 / (1 + np.exp(-5)) - 1 / (1 + np.exp(5)), rel=1e-5)
    assert timestep_chances(10, importance=False).tolist() == [1] * 10


@pytest.mark.parametrize(("mask", "mask_calls"), [("attention", 2), ("none", 0)])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, mask: str, mask_calls: int
) -> None:
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    cost = MACE.preset(None, "object", {**SHORT, "mask": mask}).erase(model, targets).recipe.cost
    # 40 images in two batches of four steps; two concepts of three iterations
    assert cost.denoiser_calls == 2 * 4 + mask_calls + 2 * 3
    assert cost.text_encoder_calls == 1


def test_an_adapter_lowers_the_attention(model: DiffusionModel, words: Knowledge) -> None:
    settings = {**SHORT, "iterations": "30", "lr": "0.05", "ridge": "1", "mask": "none"}
    safe = MACE.preset(None, "object", settings).erase(model, [Target(CHURCH, words)]).apply(model)
    cond = model.encode(["church"])
    latents = model.initial_noise([5])
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    seen = []
    for each in (model, safe):
        with attention_maps(each) as maps:
            each.predict(latents, torch.tensor(300.0), cond)
        seen.append(attention_loss(maps, everywhere, torch.arange(20)[None] == 1).item())
    assert seen[1] < 0.9 * seen[0]
