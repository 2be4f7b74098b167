"""S-GRACE's samples without words, its conditional keep term, and its second stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.paths import sampling_paths
from sgrace.erasers._shared.student import TextStudent
from sgrace.erasers.sgrace import SGrace, SGraceConfig
from sgrace.erasers.sgrace.constants import Constants
from sgrace.erasers.sgrace.denoiser_stage import ConceptImages, warm_cosine
from sgrace.erasers.sgrace.discriminator import Discriminator
from sgrace.erasers.sgrace.features import Features
from sgrace.erasers.sgrace.learned_words import LearnedWords
from sgrace.erasers.sgrace.retain import retain_prompts, vocabulary_words
from sgrace.erasers.sgrace.retained import Retained
from sgrace.erasers.sgrace.samples import Adversary
from sgrace.erasers.sgrace.seconds import Seconds
from sgrace.erasers.sgrace.text_stage import TextStage
from sgrace.erasers.sgrace.training_loss import TrainingLoss
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..families import PIPELINES, shared
from .made import CHURCH, job_of, target

SHORT = {
    "rounds": "2",
    "attack_steps": "2",
    "edit_steps": "3",
    "n_adversarial": "3",
    "n_retain": "4",
    "num_inference_steps": "10",
    "inversion_steps": "2",
    "inversion_batch": "2",
    "path_steps": "3",
    "path_prompts": "4",
    "concept_images": "6",
    "denoiser_retain": "5",
}


def config_of(**more: str) -> SGraceConfig:
    return SGrace.preset("replacement", "object", {**SHORT, **more}).config


def erased(model: StableDiffusion, words: Knowledge, **more: str) -> Erasure:
    return SGrace(config_of(**more)).erase(model, [target(words)])


@torch.no_grad()
def read_the_text(model: StableDiffusion) -> None:
    """An untrained denoiser hardly does."""
    for name in model.sites.names("text_kv"):
        model.denoiser.get_parameter(name).mul_(20)


def learned(model: StableDiffusion, words: Knowledge, **more: str) -> LearnedWords:
    config = config_of(**more)
    job = job_of(model, target(words))
    return LearnedWords.of(config, job, Constants(config, job), 0)


@pytest.mark.parametrize(
    "switch",
    [
        {"learned_words": "2"},
        {"soft_prompts": "2"},
        {"discriminator_weight": "0.1"},
        {"parameter_weight": "1", "parameter_rule": "opposing"},
        {"proximal_weight": "0.1"},
        {"random_share": "0.5"},
        {"lr_decay": "cosine"},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_every_switch_changes_the_text_encoder_and_nothing_else(
    model: StableDiffusion, words: Knowledge, switch: dict[str, str]
) -> None:
    plain = erased(model, words).tensors
    changed = erased(model, words, **switch).tensors
    assert set(changed) == {"text_encoder"}
    assert any(
        not torch.equal(changed["text_encoder"][name], value) for name, value in plain["text_encoder"].items()
    )


@pytest.mark.parametrize("switch", ["learned_words", "soft_prompts", "discriminator_weight"])
def test_what_needs_a_replacement_is_refused_without_one(switch: str) -> None:
    with pytest.raises(InputError, match="erase_target=replacement"):
        SGrace.preset("corrected", "object", {switch: "1"})
    with pytest.raises(InputError, match="rounds above 0"):
        SGrace.preset("full", "object", {switch: "1"})


def test_settings_that_nothing_would_read_are_refused() -> None:
    with pytest.raises(InputError, match="needs a replacement"):
        SGrace.preset("published", "object", {"denoiser_steps": "1"})
    with pytest.raises(InputError, match="retain_draw=pool"):
        SGrace.preset("published", "object", {"random_share": "0.5"})


def test_a_replacement_is_chosen_where_something_reads_it(model: StableDiffusion, words: Knowledge) -> None:
    for preset, steps, chosen in [
        ("corrected", "0", ""),
        ("corrected", "1", "house"),
        ("text", "0", "house"),
    ]:
        more = {**SHORT, "rounds": "1", "denoiser_steps": steps, "retain_pool": "8"}
        erasure = SGrace.preset(preset, "object", more).erase(model, [target(words)])
        assert erasure.recipe.details["replacements"][0]["name"] == chosen


def test_learned_words_are_never_discarded(model: StableDiffusion, words: Knowledge) -> None:
    bank = learned(model, words)
    bank.learn(model, 3)
    first = bank.words["clip"].clone()
    bank.learn(model, 2)
    assert len(bank) == 5
    assert torch.equal(bank.words["clip"][:3], first)


def test_prompts_with_a_learned_word_have_the_replacement_as_goal(
    model: StableDiffusion, words: Knowledge
) -> None:
    bank = learned(model, words)
    bank.learn(model, 1)
    samples = bank.samples(20)
    goals = {
        tuple(model.encode([context.format("house")]).prompt_embeds.flatten().tolist())
        for context in bank.contexts
    }
    assert {tuple(goal.flatten().tolist()) for goal in samples.goal.parts["clip"]} <= goals
    # the word is in every prompt, at one place
    same = (samples.source.embeddings["clip"] == bank.words["clip"][0]).all(-1).sum(1)
    assert same.tolist() == [1] * 20


def test_a_learned_word_lowers_the_denoising_loss(model: StableDiffusion, words: Knowledge) -> None:
    read_the_text(model)
    bank = learned(model, words, inversion_steps="60", inversion_lr="0.05", inversion_batch="3")
    bank.learn(model, 4)
    # the same seed: the same words before they are learned
    start = learned(model, words, inversion_steps="0")
    start.learn(model, 4)

    def loss(own: LearnedWords) -> float:
        generator = torch.Generator().manual_seed(5)
        rows = torch.arange(len(own.images)).repeat(40)
        noise = torch.randn(rows.shape + own.images.shape[1:], generator=generator)
        timesteps = model.schedule.sample_timesteps(len(rows), generator)
        noisy = model.schedule.add_noise(own.images[rows], noise, timesteps)
        # each image in its own context, as the words were learned
        picks = torch.randint(len(own), rows.shape, generator=generator)
        words = {name: own_words[picks] for name, own_words in own.words.items()}
        cond = model.encode_source(own.frames.with_words(rows, words))
        output = model.predict(noisy, timesteps, cond)
        wanted = model.schedule.target(own.images[rows], noise, timesteps)
        return float((output - wanted).square().mean())

    with torch.no_grad():
        assert loss(bank) < loss(start)


def test_soft_prompts_leave_their_start_and_nothing_else_changes(
    model: StableDiffusion, words: Knowledge
) -> None:
    config = config_of(soft_prompts="3", soft_length="4")
    job = job_of(model, target(words))
    constants = Constants(config, job)
    soft = Adversary(config, job, constants, model).soft(constants.subjects[0])
    plain = model.text.main.embed(soft.source.tokens["clip"].ids)
    moved = (soft.source.embeddings["clip"] != plain).any(-1)
    assert moved.sum(1).tolist() == [4] * 3
    assert soft.source.tokens["clip"].end.tolist() == [5] * 3
    goal = model.encode(["house"]).prompt_embeds
    assert torch.equal(soft.goal.parts["clip"], goal.expand(3, -1, -1))


def test_no_random_word_is_nearer_to_the_concept_than_unrelated_words(
    model: StableDiffusion, words: Knowledge
) -> None:
    constants = Constants(config_of(), job_of(model, target(words)))
    subject = constants.subjects[0]
    found = vocabulary_words(model, [subject], subject, 5, torch.Generator().manual_seed(0))

    def nearness(texts: list[str]) -> torch.Tensor:
        features = model.text_features(model.encode(texts))
        own = model.text_features(model.encode([CHURCH.name, *subject.related]))
        return torch.cosine_similarity(features[:, None], own[None], dim=-1).amax(1)

    assert len(set(found)) == 5
    assert nearness(found).max() <= nearness(list(subject.words.unrelated)).max()
    assert not set(found) & {CHURCH.name, *subject.related}
    # nor is a word of what is erased beside it
    name = found[0]
    other = replace(subject, concept=Concept(name=name), words=words.model_copy(update={"related": (name,)}))
    found = vocabulary_words(model, [subject, other], subject, 1000, torch.Generator().manual_seed(0))
    assert found
    assert name not in found


@pytest.mark.parametrize("share", ["0.25", "0.75"])
def test_words_of_the_vocabulary_have_their_share_or_listed_words_take_their_places(
    model: StableDiffusion, words: Knowledge, share: str
) -> None:
    contexts = tuple(f"picture {number} of {{}}" for number in range(20))
    words = words.model_copy(update={"unrelated_contexts": contexts})
    config = config_of(retain_pool="40", random_share=share)
    job = job_of(model, target(words))
    subjects = Constants(config, job).subjects
    every = vocabulary_words(model, subjects, subjects[0], 1000, torch.Generator().manual_seed(0))
    assert 10 < len(every) < 30  # a share of 0.25 has enough of them, one of 0.75 has not
    n_drawn = min(round(40 * float(share)), len(every))

    prompts = retain_prompts(config, job, subjects)[:40]
    listed, drawn = prompts[:-n_drawn], prompts[-n_drawn:]
    assert set(listed) <= {context.format(word) for context in contexts for word in words.unrelated}
    assert set(drawn) <= {context.format(word) for context in contexts for word in every}
    assert len(listed) == 40 - n_drawn


@pytest.mark.parametrize("sign", [1, -1])
def test_the_conditional_distance_counts_only_where_it_opposes_erasing(
    model: StableDiffusion, words: Knowledge, sign: int
) -> None:
    config = config_of(parameter_weight="2", parameter_rule="opposing")
    job = job_of(model, target(words))
    stage = TextStage(config, job, Constants(config, job), [], Seconds())
    stage.student.requires_grad_(True)
    samples = [stage.adversary.fresh(stage.constants.subjects[0], None)]
    loss_of = TrainingLoss.of(config, stage.constants, stage.student, samples)
    picks = stage.constants.retain_picks()
    erase = torch.autograd.grad(loss_of.terms(picks).erase, stage.student.parameters, allow_unused=True)
    # a step with or against the erasing gradient: the way back then helps the erasing, or opposes it
    with torch.no_grad():
        for parameter, gradient in zip(stage.student.parameters, erase, strict=True):
            if gradient is not None:
                parameter.sub_(sign * 1e-4 * gradient.sign())
    terms = loss_of.terms(picks)
    plain = torch.autograd.grad(
        terms.erased(config) + terms.kept(config),
        stage.student.parameters,
        retain_graph=True,
        allow_unused=True,
    )
    loss_of.backward(loss_of.terms(picks), progress=0.5)
    for parameter, before, gradient in zip(
        stage.student.parameters, stage.student.originals, plain, strict=True
    ):
        expected = torch.zeros_like(parameter) if gradient is None else gradient.double()
        if sign == 1:
            expected = expected + 0.5 * 2 / parameter.numel() * (parameter.detach() - before).sign().double()
        own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(own.double(), expected.double(), atol=1e-6)


def test_the_proximal_step_is_a_soft_threshold_of_every_change(
    model: StableDiffusion,
) -> None:
    generator = torch.Generator().manual_seed(0)
    student = TextStudent.of(model)
    changes = [0.01 * torch.randn(each.shape, generator=generator) for each in student.parameters]
    with torch.no_grad():
        for parameter, change in zip(student.parameters, changes, strict=True):
            parameter.add_(change)
    student.shrink_changes(0.004)
    for parameter, original, change in zip(student.parameters, student.originals, changes, strict=True):
        far = change.abs() > 0.005
        expected = original.double() + change.double() - 0.004 * change.sign().double()
        assert torch.allclose(parameter[far].double(), expected[far], atol=1e-7)
        near = change.abs() < 0.003
        assert torch.equal(parameter[near], original[near])


def test_a_proximal_step_longer_than_the_optimizers_leaves_every_weight(
    model: StableDiffusion, words: Knowledge
) -> None:
    # Adam's steps are at most a few learning rates long
    own = model.components["text_encoder"].state_dict()
    changed = erased(model, words, proximal_weight="20").tensors["text_encoder"]
    assert all(torch.equal(value, own[name]) for name, value in changed.items())


def test_a_fooled_discriminator_sees_no_difference(model: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    judge = Discriminator.of(list(model.text), generator, model.device)
    assert judge is not None
    width = model.text.main.width
    goals = Features({"clip": torch.randn(8, 4, width, generator=generator)})
    apart = Features({"clip": torch.randn(8, 4, width, generator=generator) + 3})
    for _ in range(100):
        judge.fooling(apart, goals)
    assert judge.fooling(goals, goals) < judge.fooling(apart, goals)


def test_paths_are_the_models_own_sampling(model: StableDiffusion) -> None:
    prompts = ["a photo of dog", "tree", "house"]
    cond = model.encode(prompts)
    generator = torch.Generator().manual_seed(0)
    paths = sampling_paths(model, cond, model.uncond(), generator, num_inference_steps=4, guidance_scale=2.0)
    noise = model.noise(3, torch.Generator().manual_seed(0))
    done = model.denoise(noise, cond, model.uncond(), num_inference_steps=4, guidance_scale=2.0)
    assert torch.allclose(paths.images, done.latents, atol=1e-5)
    assert len(paths) == 3 * 4 * 2
    every = model.encode([*prompts, ""])
    with torch.no_grad():
        own = every[torch.where(paths.empty, 3, paths.prompts)]
        again = model.predict(paths.latents, paths.timesteps, own)
    assert torch.allclose(again, paths.outputs, atol=1e-5)
    rest = paths.of(torch.tensor([True, False, True]))
    assert len(rest) == 2 * 4 * 2
    assert torch.equal(rest.images, paths.images[[0, 2]])
    # the last step of the third prompt, which is the second now
    assert torch.equal(rest.latents[rest.prompts == 1][-1], paths.latents[paths.prompts == 2][-1])
    assert rest.empty[rest.prompts == 1].sum() == 4


@torch.no_grad()
def test_images_with_the_replacement_start_at_the_same_noise(
    model: StableDiffusion, words: Knowledge
) -> None:
    read_the_text(model)
    config = config_of()
    job = job_of(model, target(words))
    subject = Constants(config, job).subjects[0]
    found = ConceptImages.of(config, job, model, subject)
    # the concept's prompts with the replacement alone: nothing is left that could differ
    same = replace(subject, words=subject.words.model_copy(update={"related": (subject.replacement.word,)}))
    again = ConceptImages.of(config, job, model, same)
    assert torch.equal(again.images, again.replaced)
    assert not torch.allclose(found.images, found.replaced, atol=1e-3)


def test_the_second_stage_draws_the_replacement_whatever_the_prompt(
    model: StableDiffusion, words: Knowledge, tmp_path: Path
) -> None:
    more = {
        "rounds": "0",
        "denoiser_steps": "100",
        "denoiser_lr": "0.0005",
        "concept_images": "96",
        "denoiser_retain_weight": "0",
    }
    erasure = erased(model, words, **more)
    assert set(erasure.tensors) == {"unet"}  # there is no first stage
    both = erased(model, words, **more | {"rounds": "1", "denoiser_steps": "1"})
    assert set(both.tensors) == {"text_encoder", "unet"}
    erasure.save_pretrained(tmp_path / "safe")
    safe = Erasure.from_pretrained(tmp_path / "safe").apply(model)
    config = config_of(denoiser_rows="64")
    job = job_of(model, target(words))
    constants = Constants(config, job)
    images = ConceptImages.of(config, job, model, constants.subjects[0])
    calls = images.calls(config, job, model.encode(["dog", "tree", "a boat"]))

    @torch.no_grad()
    def error(found: DiffusionModel) -> float:
        output = found.predict(calls.latents, calls.timesteps, calls.cond)
        return float((output - calls.outputs).square().mean())

    # the outputs that are wanted lead to the images with the replacement
    clean = model.schedule.to_clean(calls.outputs, calls.latents, calls.timesteps)
    distance = (clean[:, None] - images.replaced[None]).square().flatten(2).mean(2).amin(1)
    assert distance.max() < 1e-6
    # a network that was never trained learns little of a few images, on latents that it has not seen
    assert error(safe) < 0.98 * error(model)


def keeps_what_the_original_answers(model: DiffusionModel, words: Knowledge) -> None:
    config = config_of(denoiser_retain="40", replacement="house")
    job = job_of(model, target(words))
    retained = Retained.of(config, job, model, Constants(config, job))
    # the text encoder is the original: every answer is the original's own
    calls = retained.calls(config, job)
    with torch.no_grad():
        output = model.predict(calls.latents, calls.timesteps, calls.cond)
    torch.testing.assert_close(output, calls.outputs, atol=1e-4, rtol=1e-4)
    # the paths have a few noise levels only; half of the rows are at any
    stored = torch.isin(calls.timesteps, retained.paths.timesteps)
    assert stored[20:].all()
    assert stored[:20].float().mean() < 0.5
    # nothing is erased at the lowest levels, so that they may weigh more
    by_level = calls.scales[calls.timesteps.argsort()]
    assert by_level[0] < by_level[-1] == 1
    assert torch.equal(by_level, by_level.sort().values)


def test_what_the_second_stage_keeps_is_what_the_original_answers(
    model: StableDiffusion, words: Knowledge
) -> None:
    read_the_text(model)
    keeps_what_the_original_answers(model, words)


@pytest.mark.parametrize("family", PIPELINES)
def test_the_second_stage_trains_the_denoisers_of_all_families(family: str, words: Knowledge) -> None:
    keeps_what_the_original_answers(shared(family), words)
    more = {"rounds": "0", "denoiser_steps": "2", "replacement": "house"}
    erasure = SGrace(config_of(**more)).erase(shared(family), [target(words)])
    assert shared(family).denoiser_component in erasure.tensors


def test_the_second_stage_costs_no_more_than_the_algorithm_needs(
    model: StableDiffusion, words: Knowledge
) -> None:
    def cost(steps: int) -> dict[str, int]:
        more = {"rounds": "0", "denoiser_steps": str(steps)}
        return dict(erased(model, words, **more).recipe.cost.model_dump())

    one, three = cost(1), cost(3)
    config = config_of()
    # half of the retain rows are answered by the original anew, in a call of their own
    rows = config.denoiser_rows + config.denoiser_retain + config.denoiser_retain // 2
    assert three["denoiser_rows"] - one["denoiser_rows"] == 2 * rows
    assert three["denoiser_calls"] - one["denoiser_calls"] == 2 * 2


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [warm_cosine(step, 100) for step in range(100)]
    assert max(factors) < 1
    assert factors[0] < factors[8]
    assert factors[20] > factors[60] > factors[99] > 0
