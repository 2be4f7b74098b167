"""MACE: attention maps against the layers' own arithmetic, its loss and closed form against the formulas, its cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sgrace.concept import Concept
from sgrace.erasers._shared.closed_form import Example, fuse_matrices
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers.mace import MACE, MACEConfig, Phrase, attention_loss, concept_tokens, other_states, phrases_of, timestep_chances
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion
from sgrace.models.adapters import LowRank, adapted
from sgrace.models.attention import attention_maps, resized, token_mask
from sgrace.models.sites import shared_copy

CHURCH = Concept(name="church")
SHORT = {"iterations": "3", "batch": "2", "n_pictures": "20", "num_inference_steps": "4", "n_prompts": "5"}


def test_maps_are_the_ones_that_the_layer_used(model: StableDiffusion) -> None:
    unet = model.pipeline.unet
    states, latents = model.encode(model.tokenize(["church", "a dog"]).ids), model.initial_noise([1, 2])
    layers = [layer for name, layer in unet.named_modules() if name.endswith("attn2")]
    outputs, values = [], []
    hooks = [layer.to_out[0].register_forward_pre_hook(lambda _m, inputs: outputs.append(inputs[0])) for layer in layers]
    hooks += [layer.to_v.register_forward_hook(lambda _m, _i, output: values.append(output)) for layer in layers]
    plain = model.predict(latents, 500, states)
    outputs.clear()
    values.clear()
    with attention_maps(unet) as maps:
        assert model.predict(latents, 500, states).equal(plain)
    for hook in hooks:
        hook.remove()
    assert len(maps) == len(layers) == 4
    for weights, value, output in zip(maps, values, outputs, strict=True):
        heads = value.unflatten(-1, (weights.shape[1], -1)).transpose(1, 2)
        torch.testing.assert_close((weights @ heads).transpose(1, 2).flatten(2), output, atol=1e-5, rtol=1e-4)
    model.predict(latents, 500, states)
    assert len(maps) == 4, "nothing is read after the block"


def test_a_mask_is_where_the_scaled_mean_map_is_high() -> None:
    maps = [torch.rand(2, 3, pixels, 5, generator=torch.Generator().manual_seed(pixels)) for pixels in (4, 16, 16, 64)]
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
    maps = [torch.rand(2, 3, pixels, 5, generator=generator) for pixels in (4, 16)]
    masks = torch.rand(2, 1, 4, 4, generator=generator) > 0.7
    tokens = torch.tensor([[False, True, True, False, False], [False, False, False, True, False]])
    expected = 0.0
    for i in range(2):
        for layer in maps:
            side = int(layer.shape[2] ** 0.5)
            inside = resized(masks[i : i + 1], side).flatten().bool()
            expected += layer[i][:, inside][:, :, tokens[i]].square().sum().sqrt().item() / 2
    assert attention_loss(maps, masks, tokens).item() == pytest.approx(expected, rel=1e-5)


def test_adapters_add_their_change_to_the_weights(model: StableDiffusion) -> None:
    unet, generator = model.pipeline.unet, torch.Generator().manual_seed(0)
    names = [n for n, m in unet.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and ".attentions." in f".{n}"]
    adapters = {name: LowRank(unet.get_submodule(name), 2, generator) for name in names}
    states, latents = model.encode(model.tokenize(["church"]).ids), model.initial_noise([1])
    beside = model.with_unet(adapted(unet, adapters))
    plain = model.predict(latents, 500, states)
    assert beside.predict(latents, 500, states).equal(plain), "at first they add nothing"
    for adapter in adapters.values():
        nn.init.normal_(adapter.up, std=0.1, generator=generator)
    merged = {f"{n}.weight": unet.get_submodule(n).weight + a.change().detach() for n, a in adapters.items()}
    expected = model.with_unet(shared_copy(unet, merged)).predict(latents, 500, states)
    found = beside.predict(latents, 500, states)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert (found - plain).abs().max() > 1e-3
    assert model.predict(latents, 500, states).equal(plain), "the original has none"


def test_fusion_minimises_its_objective() -> None:
    rng = np.random.default_rng(0)
    before = [torch.tensor(rng.normal(size=(m, 6))) for m in (4, 3)]
    examples = [
        Example(torch.tensor(rng.normal(size=(n, 6))), [torch.tensor(rng.normal(size=w.shape)) for w in before], weight)
        for n, weight in ((5, 1.0), (9, 0.3))
    ]
    for i, (w, found) in enumerate(zip(before, fuse_matrices(before, examples, 0.2), strict=True)):
        rows = np.vstack([*(np.sqrt(e.weight) * e.inputs.numpy() for e in examples), np.sqrt(0.2) * np.eye(6)])
        wanted = [np.sqrt(e.weight) * e.inputs.numpy() @ e.matrices[i].numpy().T for e in examples]
        reference = np.linalg.lstsq(rows, np.vstack([*wanted, np.sqrt(0.2) * w.numpy().T]), rcond=None)[0].T
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-10)


def test_phrases_know_where_the_concept_is(model: StableDiffusion, words: Knowledge) -> None:
    config = MACEConfig(mapping="a house", words="related")
    phrases = phrases_of(model, config, CHURCH, words, torch.Generator().manual_seed(0))
    assert phrases[0] == Phrase("church", 1, 2, "a house", 3)
    assert Phrase("an image of chapel", 4, 5, "an image of a house", 6) in phrases
    row = concept_tokens(phrases[:1], model.text_length)[0]
    assert row.nonzero().flatten().tolist() == [1]
    texts = Texts(model, ["church", "a house"])
    own, mapped = other_states(texts, phrases[:1])
    church, house = texts(["church", "a house"])
    n = model.text_length - 3
    assert own.equal(torch.cat([church[:1], church[2 : 2 + n]]))
    assert mapped.equal(torch.cat([house[:1], house[3:]]))


def test_important_timesteps_lie_between_a_fifth_and_two_fifths() -> None:
    chances = timestep_chances(1000, importance=True)
    assert chances[200:401].sum() / chances.sum() > 0.85
    assert chances[300] == pytest.approx(1 / (1 + np.exp(-5)) - 1 / (1 + np.exp(5)), rel=1e-5)
    assert timestep_chances(10, importance=False).tolist() == [1] * 10


@pytest.mark.parametrize(("mask", "mask_calls"), [("attention", 2), ("none", 0)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, mask: str, mask_calls: int) -> None:
    concepts = [CHURCH, Concept(name="boat")]
    cost = MACE.preset(None, "object", {**SHORT, "mask": mask}).erase(model, concepts, [words, words]).recipe["cost"]
    assert cost["unet_calls"] == 2 * 4 + mask_calls + 2 * 3  # 40 pictures in two batches; two concepts
    assert cost["text_encoder_calls"] == 1


def test_an_adapter_lowers_the_attention(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "iterations": "30", "lr": "0.05", "ridge": "1", "mask": "none"}
    safe = MACE.preset(None, "object", settings).erase(model, [CHURCH], [words]).apply(model)
    states, latents = model.encode(model.tokenize(["church"]).ids), model.initial_noise([5])
    seen = []
    for each in (model, safe):
        with attention_maps(each.pipeline.unet) as maps:
            each.predict(latents, 300, states)
        seen.append(attention_loss(maps, torch.ones(1, 1, 1, 1, dtype=torch.bool), torch.arange(20)[None] == 1).item())
    assert seen[1] < 0.9 * seen[0]
