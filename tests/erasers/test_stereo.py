"""STEREO: targets against the formulas, the words it finds, anchors, cost, and the weights of the release."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import PartialSampler
from sgrace.erasers._shared.student import Student
from sgrace.erasers._shared.textual_inversion import encode_learned, learn_words, taken_apart
from sgrace.erasers.stereo import STEREO, STEREOConfig
from sgrace.erasers.stereo.prompts import anchor_prompts, contexts_of, prompts_of_words
from sgrace.erasers.stereo.words import WordBank, WordsSampler, robust_target
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning, DiffusionModel

from .made import CHURCH, target

SHORT = {
    "rounds": "2",
    "search_iterations": "2",
    "inversion_steps": "3",
    "inversion_batch": "2",
    "n_images": "5",
    "image_steps": "3",
    "n_anchors": "4",
    "sample_from": "frozen",
    "pool": "6",
    "num_inference_steps": "4",
    "iterations": "3",
    "batch": "2",
    "lr": "1e-3",
}


def changed(model: DiffusionModel, words: Knowledge, **settings: str) -> dict[str, Tensor]:
    eraser = STEREO.preset(None, "object", {**SHORT, **settings})
    return dict(eraser.erase(model, [target(words)]).tensors["unet"])


def test_the_robust_target_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    uncond, anchor, *words = torch.randn(5, 2, 3, 4, 4, generator=generator)
    for g, erase, retain in ((2.0, 3.0, 1.0), (1.5, 2.5, 0.5)):
        away = sum(-(g + 1) * (word - uncond) for word in words) / 3
        expected = uncond + away + (g - 1) * (anchor - uncond)
        torch.testing.assert_close(robust_target(uncond, anchor, torch.stack(words), erase, retain), expected)
    released = STEREO.preset("as-released", "harmful").config
    assert (released.erase_weight, released.retain_weight) == (3.0, 1.0)
    assert (STEREOConfig().erase_weight, STEREOConfig().retain_weight) == (1.0, 1.0)


@pytest.mark.parametrize("anchors", ["scenes", "replacement"])
def test_all_words_of_a_concept_in_a_context_are_taught_one_target(
    model: DiffusionModel, anchors: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    size = (model.text.main.length, 24)
    words = torch.randn(2, 3, 2, *size, generator=generator)  # concept, word, context
    towards = torch.randn(2, 2, *size, generator=generator)  # concept, context
    if anchors == "scenes":
        towards = towards[:, :1]  # chosen at random, where the replacement's are those of the same context
    empty = torch.randn(1, *size, generator=generator)
    bank = WordBank(2, 2, tuple(Conditioning(words[:, word].flatten(0, 1)) for word in range(3)))
    sampler = WordsSampler(
        STEREOConfig(erase_weight=0.7),
        model,
        model,
        bank.everything(),
        Conditioning(empty),
        generator,
        bank=bank,
        anchors=Conditioning(towards.flatten(0, 1)),
        n_anchors=towards.shape[1],
        by_context=anchors == "replacement",
        anchor_weight=1.3,
    )
    latents = model.initial_noise([1, 2, 3])
    timesteps = torch.tensor([200.0, 600.0, 990.0])
    rows = [(0, 2, 0), (0, 1, 1), (1, 0, 1)]  # concept, word, context
    picks = torch.tensor([(concept * 3 + word) * 2 + context for concept, word, context in rows])
    for pick, row in zip(picks, rows, strict=True):
        assert sampler.cond.prompt_embeds[pick].equal(words[row])
    targets = sampler.targets(latents, timesteps, picks)
    assert model.calls.denoiser_calls == 1
    unet = model.pipeline.unet
    for i, (concept, _, context) in enumerate(rows):
        anchor = towards[concept, context if anchors == "replacement" else 0]
        prompts = [empty[0], anchor, *words[concept, :, context]]
        outputs = [unet(latents[i : i + 1], timesteps[i], prompt[None]).sample for prompt in prompts]
        uncond, to, *own = outputs
        expected = uncond - 0.7 * ((own[0] + own[1] + own[2]) / 3 - uncond) + 1.3 * (to - uncond)
        torch.testing.assert_close(targets[i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_the_search_erases_with_the_target_of_its_formula(model: DiffusionModel) -> None:
    cond = model.encode(["church"])
    uncond = model.uncond()
    latents = model.initial_noise([1])
    timesteps = torch.tensor([400.0])
    own = model.pipeline.unet(latents, 400, cond.prompt_embeds).sample
    empty = model.pipeline.unet(latents, 400, uncond.prompt_embeds).sample
    for g in (2.0, 3.5):
        config = STEREOConfig(negative_guidance=g - 1)
        sampler = PartialSampler(config, model, model, cond, uncond, torch.Generator())
        expected = own - (g - 1) * (own - empty)
        found = sampler.targets(latents, timesteps, torch.tensor([0]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_word_is_learned_that_lowers_the_error_on_the_images(model: DiffusionModel) -> None:
    student = Student.of(model, "all")  # ready to be trained, but only the words are given gradients
    prompts = [taken_apart(model, pattern, "dog", 0) for pattern in ("{}", "a photo of {}", "{}, a picture")]
    latents = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    start = model.text.main.embed(torch.tensor(model.text.main.content_tokens("dog")))[None]

    def error(word: Tensor) -> float:
        noise = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(1))
        timesteps = torch.tensor([100.0, 500.0, 900.0])
        noisy = model.schedule.add_noise(latents, noise, timesteps)
        with torch.no_grad():
            output = model.predict(noisy, timesteps, encode_learned(model, prompts, {"clip": word}))
        return (output - model.schedule.target(latents, noise, timesteps)).square().mean().item()

    generator = torch.Generator().manual_seed(2)
    [learned] = learn_words(
        student.model,
        prompts,
        latents,
        {"clip": start},
        steps=40,
        batch=3,
        lr=0.3,
        weight_decay=0.0,
        generator=generator,
    ).values()
    assert learned.shape == start.shape
    assert not learned.requires_grad
    assert all(parameter.grad is None for parameter in student.parameters)
    assert error(learned) < error(start)


def test_contexts_and_anchors_of_each_concept(words: Knowledge) -> None:
    rng = random.Random(0)
    church = target(words)
    ink = target(
        words.model_copy(update={"related": ("ink",), "replacements": ("tree",)}),
        Concept(name="ink", kind="style"),
    )
    assert [contexts_of(each, 0, rng) for each in (church, ink)] == [["a photo of {}"], ["a picture of {}"]]
    patterns = [contexts_of(each, 6, rng) for each in (church, ink)]
    assert [len(own) for own in patterns] == [6, 6]
    assert [set(own) for own in patterns] == [set(words.contexts)] * 2

    said = prompts_of_words(church, patterns[0], "related")
    assert said == [p.format(name) for p, name in zip(patterns[0], ("church", "chapel") * 3, strict=True)]
    assert prompts_of_words(church, patterns[0], "name") == [p.format("church") for p in patterns[0]]

    def anchors(kind: str) -> list[list[str]]:
        return anchor_prompts(STEREOConfig(anchors=kind, n_anchors=50), [church, ink], patterns, rng)

    plain = {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    assert [set(own) for own in anchors("unrelated")] == [plain] * 2
    of_church, of_ink = anchors("scenes")
    assert len(of_church) == len(of_ink) == 50
    assert set(of_church) == {f"{prompt}, church" for prompt in plain}
    assert set(of_ink) == {f"{prompt} in ink style" for prompt in plain}
    replaced = [[p.format("house") for p in patterns[0]], [p.format("tree") for p in patterns[1]]]
    assert anchors("replacement") == replaced
    bare = target(words.model_copy(update={"replacements": ()}))
    with pytest.raises(InputError, match="take the place of 'church'"):
        anchor_prompts(STEREOConfig(anchors="replacement"), [bare], patterns[:1], rng)


def test_the_last_stage_starts_from_the_original_again(model: DiffusionModel, words: Knowledge) -> None:
    for name, value in changed(model, words, lr="1e-9", weight_decay="0", search_lr="1e-1").items():
        torch.testing.assert_close(value, model.denoiser.get_parameter(name), atol=1e-6, rtol=0)


def test_found_words_change_what_is_erased(model: DiffusionModel, words: Knowledge) -> None:
    without = changed(model, words, rounds="0")
    assert any(not value.equal(without[name]) for name, value in changed(model, words, rounds="2").items())


@pytest.mark.parametrize(("rounds", "contexts"), [(0, 0), (1, 0), (2, 0), (2, 3)])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, rounds: int, contexts: int
) -> None:
    settings = {**SHORT, "rounds": str(rounds), "n_contexts": str(contexts)}
    cost = STEREO.preset(None, "object", settings).erase(model, [target(words)]).recipe.cost
    n_contexts = max(contexts, 1)
    texts = {"", CHURCH.prompt, *(c.format("church") for c in words.contexts if rounds)}
    assert cost.text_encoder_calls == 1 + rounds * (3 + 1)
    # texts and anchors once, then the learned words
    assert cost.text_encoder_rows == len(texts) + 4 + rounds * (3 * 2 + n_contexts)
    images = 3 * 2 * 5 if rounds else 0
    search = 2 * 4 + 2 * 2 + 3 * 2  # four samples are enough for two batches of two
    last = 6 * (2 + rounds + 1) + 3 * 2
    fixed = images + rounds * search + last
    most = fixed + 2 * 3 * (4 * rounds + 6)  # a sample stops before its fourth guided step
    assert cost.denoiser_rows is not None
    assert fixed <= cost.denoiser_rows <= most


def test_samples_may_come_from_the_model_in_training(model: DiffusionModel, words: Knowledge) -> None:
    edited = changed(model, words, sample_from="edited")
    frozen = changed(model, words, sample_from="frozen")
    assert any(not value.equal(edited[name]) for name, value in frozen.items())
