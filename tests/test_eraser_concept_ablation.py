"""Concept Ablation: its loss against the formula, its pairs of prompts, its cost."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace.concept import Concept
from sgrace.erasers.concept_ablation import ConceptAblation, ConceptAblationConfig, ablation_loss, pairs_of
from sgrace.erasers.student import Student
from sgrace.errors import InputError
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "3", "batch": "2", "num_inference_steps": "4", "n_pictures": "40"}


@pytest.mark.parametrize("target", ["model", "noise"])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_loss_is_its_formula(model: StableDiffusion, target: str, weight: float) -> None:
    config = ConceptAblationConfig(target=target, prior_weight=weight)
    student = Student.of(model, "cross_attention_kv")
    generator = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(5, *model.latent_shape, generator=generator) for _ in range(2))
    timesteps = torch.tensor([10, 300, 500, 700, 990])
    states = torch.randn(5, model.text_length, 24, generator=generator)
    anchors = torch.randn(3 if weight else 5, model.text_length, 24, generator=generator)
    n = len(anchors)
    loss = ablation_loss(config, student.model, clean, noise, timesteps, states, anchors)

    signal = model.pipeline.scheduler.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
    noisy = signal**0.5 * clean + (1 - signal) ** 0.5 * noise
    truth = noise if model.prediction_type == "epsilon" else signal**0.5 * noise - (1 - signal) ** 0.5 * clean
    unet = model.pipeline.unet
    output = unet(noisy, timesteps, states).sample
    goal = unet(noisy[:n], timesteps[:n], anchors).sample if target == "model" else truth[:n]
    expected = ((output[:n] - goal) ** 2).mean()
    if weight:
        expected = expected + weight * ((output[n:] - truth[n:]) ** 2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters)


def test_the_anchor_side_carries_no_gradient(model: StableDiffusion) -> None:
    student = Student.of(model, "cross_attention_kv")
    clean, noise = torch.ones(1, *model.latent_shape), model.initial_noise([1])
    states = torch.randn(1, model.text_length, 24, generator=torch.Generator().manual_seed(0))
    anchors = states.clone().requires_grad_(True)
    loss = ablation_loss(ConceptAblationConfig(), student.model, clean, noise, torch.tensor([500]), states.requires_grad_(True), anchors)
    loss.backward()
    assert anchors.grad is None
    assert states.grad is not None


def test_pairs_replace_the_anchor_or_add_the_concept(words: Knowledge) -> None:
    rng = random.Random(0)
    replaced = pairs_of(ConceptAblationConfig(), [CHURCH], [words], rng)
    assert {(p.anchor, p.target, p.negative) for p in replaced} == {(c.format("house"), c.format("church"), "") for c in words.contexts}
    related = pairs_of(ConceptAblationConfig(words="related", anchor="dog"), [CHURCH], [words], rng)
    assert {p.target for p in related} == {c.format(w) for c in words.contexts for w in ("church", "chapel")}
    assert {p.anchor for p in related} == {c.format("dog") for c in words.contexts}
    style = Concept(name="ink", kind="style")
    added = pairs_of(ConceptAblationConfig(pairs="add"), [style], [words], rng)
    assert {p.anchor for p in added} == {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    assert all(p.target == f"{p.anchor} in ink style" for p in added)
    harmful = Concept(name="weapon", kind="harmful")
    avoided = pairs_of(ConceptAblationConfig(pairs="add", anchor="person", avoid=True), [harmful], [words], rng)
    assert {(p.target, p.negative) for p in avoided} == {(f"{c.format('person')}, weapon", "weapon") for c in words.unrelated_contexts}


def test_concepts_take_turns_among_the_pairs(words: Knowledge) -> None:
    both = pairs_of(ConceptAblationConfig(n_prompts=6), [CHURCH, Concept(name="tree")], [words, words], random.Random(0))
    assert ["church" in p.target for p in both] == [True, False] * 3


def test_no_anchor_is_told() -> None:
    bare = Knowledge(source="test", related=(), unrelated=("dog",), surrogates=("church",))
    with pytest.raises(InputError, match="No anchor for 'church'"):
        pairs_of(ConceptAblationConfig(), [CHURCH], [bare], random.Random(0))


@pytest.mark.parametrize(("target", "weight", "calls"), [("model", "0", 2), ("model", "1", 2), ("noise", "0", 1)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, target: str, weight: str, calls: int) -> None:
    settings = {**SHORT, "target": target, "prior_weight": weight}
    cost = ConceptAblation.preset(None, "object", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 1
    assert cost["text_encoder_rows"] == 1 + 2 * len(words.contexts), "the empty text, and each prompt once"
    assert cost["unet_calls"] == 4 + 3 * calls, "6 pictures of the 40 are enough for 3 batches of 2, and one batch draws them"
    trained = 3 * 2 * (calls + (weight != "0"))
    assert cost["unet_rows"] == 2 * 6 * 4 + trained


def test_pictures_are_drawn_away_from_the_concept(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "anchor": "dog", "lr": "1e-3"}
    plain, avoiding = (
        ConceptAblation.preset(None, "object", {**settings, "avoid": avoid}).erase(model, [CHURCH], [words]) for avoid in ("0", "1")
    )
    assert any(not value.equal(avoiding.unet[name]) for name, value in plain.unet.items())
