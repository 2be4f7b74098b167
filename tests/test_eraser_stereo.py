"""STEREO: its targets against the formulas, the words it finds, anchors, cost, and the weights of the release."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import PartialSampler
from sgrace.erasers._shared.student import Student
from sgrace.erasers._shared.textual_inversion import inverted, said, taken_apart
from sgrace.erasers.stereo import STEREO, STEREOConfig, WordsSampler, anchor_prompts, robust_target, said_in, said_words
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {
    "rounds": "2", "search_iterations": "2", "inversion_steps": "3", "inversion_batch": "2", "n_pictures": "5", "picture_steps": "3",
    "n_anchors": "4", "sample_from": "frozen", "pool": "6", "num_inference_steps": "4", "iterations": "3", "batch": "2", "lr": "1e-3",
}  # fmt: skip


def test_the_robust_target_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    nothing, anchor, *words = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(5))
    for g, erase, towards in ((2.0, 3.0, 1.0), (1.5, 2.5, 0.5)):
        expected = nothing + sum(-(g + 1) * (word - nothing) for word in words) / 3 + (g - 1) * (anchor - nothing)
        torch.testing.assert_close(robust_target(nothing, anchor, torch.stack(words), erase, towards), expected)
    kind = STEREO.preset("as_released", "harmful").config
    assert (kind.erase_weight, kind.anchor_weight) == (3.0, 1.0)
    assert (STEREOConfig().erase_weight, STEREOConfig().anchor_weight) == (1.0, 1.0)


@pytest.mark.parametrize("anchors", ["scenes", "surrogate"])
def test_all_words_of_a_concept_in_a_context_are_taught_one_target(model: StableDiffusion, anchors: str) -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(2, 3, 2, model.text_length, 24, generator=generator)
    towards = torch.randn(2, 2, model.text_length, 24, generator=generator)
    if anchors == "scenes":
        towards = towards[:, :1]  # drawn at random, where the surrogate's are those of the same context
    empty, config = (
        torch.randn(1, model.text_length, 24, generator=generator),
        STEREOConfig(erase_weight=0.7, anchor_weight=1.3, anchors=anchors),
    )
    sampler = WordsSampler(config, model, model, words.flatten(0, 2), empty, generator, words=words, anchors=towards)
    latents, timesteps = model.initial_noise([1, 2, 3]), torch.tensor([200, 600, 990])
    rows = [(0, 2, 0), (0, 1, 1), (1, 0, 1)]  # concept, word, context
    picks = torch.tensor([(concept * 3 + word) * 2 + context for concept, word, context in rows])
    assert all(sampler.shown[pick].equal(words[row]) for pick, row in zip(picks, rows, strict=True))
    targets = sampler.targets(latents, timesteps, picks)
    assert model.calls.unet_calls == 1
    for i, (concept, _, context) in enumerate(rows):
        anchor = towards[concept, context if anchors == "surrogate" else 0]
        nothing, to, *own = (
            model.pipeline.unet(latents[i : i + 1], timesteps[i], text[None]).sample
            for text in (empty[0], anchor, *words[concept, :, context])
        )
        expected = nothing - 0.7 * ((own[0] + own[1] + own[2]) / 3 - nothing) + 1.3 * (to - nothing)
        torch.testing.assert_close(targets[i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_the_search_erases_with_the_target_of_its_formula(model: StableDiffusion) -> None:
    states, empty = model.encode(model.tokenize(["church"]).ids), model.encode(model.tokenize([""]).ids)
    latents, timesteps = model.initial_noise([1]), torch.tensor([400])
    own, nothing = (model.pipeline.unet(latents, 400, text).sample for text in (states, empty))
    for g in (2.0, 3.5):
        sampler = PartialSampler(STEREOConfig(strength=g - 1), model, model, states, empty, torch.Generator())
        expected = own - (g - 1) * (own - nothing)
        torch.testing.assert_close(sampler.targets(latents, timesteps, torch.tensor([0])), expected, rtol=1e-4, atol=1e-5)


def test_a_word_is_learnt_that_lowers_the_error_on_the_pictures(model: StableDiffusion) -> None:
    student = Student.of(model, "all")  # ready to be trained, but the words' gradients are the only ones asked for
    prompts = [taken_apart(model, pattern, "dog", 0) for pattern in ("{}", "a photo of {}", "{}, a picture")]
    latents = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    start = model.embed(torch.tensor(model.content_tokens("dog")))[None]

    def error(word: torch.Tensor) -> float:
        states, noise = said(model, prompts, word), torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(1))
        timesteps = torch.tensor([100, 500, 900])
        output = model.predict(model.noised(latents, noise, timesteps), timesteps, states)
        return (output - model.training_target(latents, noise, timesteps)).square().mean().item()

    settings = {"steps": 40, "batch": 3, "lr": 0.3, "weight_decay": 0.0}
    learnt = inverted(student.model, prompts, latents, start, **settings, generator=torch.Generator().manual_seed(2))
    assert learnt.shape == start.shape
    assert not learnt.requires_grad
    assert all(parameter.grad is None for parameter in student.parameters)
    assert error(learnt) < error(start)


def test_contexts_and_anchors_of_each_concept(words: Knowledge) -> None:
    rng, ink = random.Random(0), Concept(name="ink", kind="style")
    inks = words.model_copy(update={"related": ("ink",), "replacements": ("tree",)})
    concepts, both = [CHURCH, ink], [words, inks]
    assert said_in(concepts, both, 0, rng) == [["a photo of {}"], ["a picture of {}"]]
    patterns = said_in(concepts, both, 6, rng)
    assert [len(own) for own in patterns] == [6, 6]
    assert [set(own) for own in patterns] == [set(words.contexts)] * 2

    told = said_words(CHURCH, words, patterns[0], "related")
    assert told == [p.format(name) for p, name in zip(patterns[0], ("church", "chapel") * 3, strict=True)]
    assert said_words(CHURCH, words, patterns[0], "name") == [p.format("church") for p in patterns[0]]

    def anchors(kind: str) -> list[list[str]]:
        return anchor_prompts(STEREOConfig(anchors=kind, n_anchors=50), concepts, both, patterns, rng)

    plain = {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    assert [set(own) for own in anchors("unrelated")] == [plain] * 2
    church, scenes = anchors("scenes")
    assert len(church) == len(scenes) == 50
    assert set(church) == {f"{prompt}, church" for prompt in plain}
    assert set(scenes) == {f"{prompt} in ink style" for prompt in plain}
    assert anchors("surrogate") == [[p.format("house") for p in patterns[0]], [p.format("tree") for p in patterns[1]]]
    with pytest.raises(InputError, match="take the place of 'church'"):
        anchor_prompts(STEREOConfig(anchors="surrogate"), [CHURCH], [words.model_copy(update={"replacements": ()})], patterns[:1], rng)


def test_the_last_stage_starts_from_the_original_again(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "lr": "1e-9", "weight_decay": "0", "search_lr": "1e-1"}
    erasure = STEREO.preset(None, "object", settings).erase(model, [CHURCH], [words])
    for name, value in erasure.unet.items():
        torch.testing.assert_close(value, model.pipeline.unet.get_parameter(name), atol=1e-6, rtol=0)


def test_found_words_change_what_is_erased(model: StableDiffusion, words: Knowledge) -> None:
    with_, without = (STEREO.preset(None, "object", {**SHORT, "rounds": rounds}).erase(model, [CHURCH], [words]).unet for rounds in "20")
    assert any(not value.equal(without[name]) for name, value in with_.items())


@pytest.mark.parametrize(("rounds", "contexts"), [(0, 0), (1, 0), (2, 0), (2, 3)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, rounds: int, contexts: int) -> None:
    settings = {**SHORT, "rounds": str(rounds), "n_contexts": str(contexts)}
    cost = STEREO.preset(None, "object", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    n_said = max(contexts, 1)
    texts = {"", CHURCH.prompt, *(c.format("church") for c in words.contexts if rounds)}
    assert cost["text_encoder_calls"] == 1 + rounds * (3 + 1)
    assert cost["text_encoder_rows"] == len(texts) + 4 + rounds * (3 * 2 + n_said), "texts and anchors once, then the learned words"
    pictures = 3 * 2 * 5 if rounds else 0
    search, last = 2 * 4 + 2 * 2 + 3 * 2, 6 * (2 + rounds + 1) + 3 * 2  # four samples are enough for two batches of two
    fixed = pictures + rounds * search + last
    assert fixed <= cost["unet_rows"] <= fixed + 2 * 3 * (4 * rounds + 6), "a sample stops before its fourth guided step"


def test_samples_may_come_from_the_model_in_training(model: StableDiffusion, words: Knowledge) -> None:
    frozen, edited = (
        STEREO.preset(None, "object", {**SHORT, "sample_from": source}).erase(model, [CHURCH], [words]) for source in ("frozen", "edited")
    )
    assert any(not value.equal(edited.unet[name]) for name, value in frozen.unet.items())
