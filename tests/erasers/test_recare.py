"""ReCARE: its target, what it retains, how co-occurring words are mined and filtered."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor

from sgrace.erasers._shared.co_occurring import benign, candidates, clusters, shown_counts, steady
from sgrace.erasers._shared.partial_samples import Samples
from sgrace.erasers.recare import ReCARE, ReCAREConfig, anchor_prompts, kept
from sgrace.erasers.stereo.words import WordBank, WordsSampler
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning, DiffusionModel

from .made import target


def test_words_move_away_from_the_concept_and_towards_a_word_of_the_same_context(
    model: DiffusionModel,
) -> None:
    generator = torch.Generator().manual_seed(0)
    size = (model.text.main.length, 24)
    words = torch.randn(3, 2, *size, generator=generator)  # word, context
    towards = torch.randn(2, 4, *size, generator=generator)  # context, co-occurring word
    empty = torch.randn(1, *size, generator=generator)
    bank = WordBank(1, 2, tuple(Conditioning(word) for word in words))
    sampler = WordsSampler(
        ReCAREConfig(erase_weight=0.7),
        model,
        model,
        bank.everything(),
        Conditioning(empty),
        generator,
        bank=bank,
        anchors=Conditioning(towards.flatten(0, 1)),
        n_anchors=8,
        by_context=True,
        anchor_weight=1.3,
    )
    latents = model.initial_noise([1, 2])
    timesteps = torch.tensor([200.0, 990.0])

    def output(i: int, prompt: Tensor) -> Tensor:
        found: Tensor = model.pipeline.unet(latents[i : i + 1], timesteps[i], prompt[None]).sample
        return found[0].double()

    targets = sampler.targets(latents, timesteps, torch.tensor([2 * 2 + 0, 1 * 2 + 1]))
    for i, context in enumerate((0, 1)):  # of the third word and of the second
        uncond = output(i, empty[0])
        away = torch.stack([output(i, word) - uncond for word in words[:, context]]).sum(0) / 3
        possible = [uncond - 0.7 * away + 1.3 * (output(i, t) - uncond) for t in towards[context]]
        errors = [(targets[i].double() - found).abs().max().item() for found in possible]
        assert min(errors) < 1e-4 < max(errors)


def test_the_retain_loss_is_its_formula(model: DiffusionModel) -> None:
    other = model.with_denoiser_parameters(
        {name: value + 0.1 for name, value in model.sites.parameters("text_kv").items()}
    )
    cond = model.encode(["dog", "tree"])
    latents = model.initial_noise([1, 2])
    timesteps = torch.tensor([300.0, 800.0])
    samples = Samples(latents, timesteps, model.encode(["church"] * 2), latents, latents)
    outputs = [of.denoiser(latents, timesteps, cond.prompt_embeds).sample.double() for of in (other, model)]
    expected = (outputs[0] - outputs[1]).square().mean()
    assert expected > 0
    torch.testing.assert_close(kept(other, model, samples, cond).double(), expected, rtol=1e-4, atol=0)


def test_the_second_stage_of_the_filter_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(9, 5, generator=generator), dim=-1)
    concept = F.normalize(torch.randn(5, generator=generator), dim=-1)
    outside = torch.eye(5, dtype=torch.float64) - torch.outer(concept, concept).double()
    drift = []
    for i in range(9):
        without = torch.stack([features[j] for j in range(9) if j != i]).double().mean(0)
        drift.append((outside @ without).square().sum().item())
    expected = []
    for i, own in enumerate(drift):
        others = [drift[j] for j in range(9) if j != i]
        expected.append(own <= 1.01 * sum(others) / 8)
    assert steady(features, concept, 0.01).tolist() == expected
    assert {True, False} == set(expected)
    assert steady(features[:1], concept, 0.01).tolist() == [True]


def test_the_clusters_nearest_and_farthest_are_left_out() -> None:
    """Three tight groups at different angles to the concept: only the middle one is benign."""
    generator = torch.Generator().manual_seed(0)
    concept = torch.tensor([1.0, 0, 0, 0])
    centres = torch.tensor([[1.0, 0.2, 0, 0], [0.6, 0, 0.8, 0], [0, 0, 0, 1.0]])
    groups = centres.repeat_interleave(4, 0) + 0.01 * torch.randn(12, 4, generator=generator)
    features = F.normalize(groups, dim=-1)
    apart = {}  # k-means depends on where it starts: any start that parts the groups will do
    for seed in range(20):
        labels = clusters(features, 3, torch.Generator().manual_seed(seed))
        apart[seed] = (
            all(len(labels[i : i + 4].unique()) == 1 for i in (0, 4, 8)) and len(labels.unique()) == 3
        )
    seed = next(seed for seed, parted in apart.items() if parted)
    kept_words = benign(features, concept, 3, 1e9, torch.Generator().manual_seed(seed))
    assert kept_words.tolist() == [4, 5, 6, 7]
    few = benign(features[:3], concept, 7, 1e9, generator)
    assert few.tolist() == [0, 1, 2], "too few to part"


def test_an_image_shows_the_words_with_the_least_denoising_error(model: DiffusionModel) -> None:
    model.batch_size = 2  # a full piece and a smaller one
    words = model.encode(["dog", "tree", "house"])
    latents = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(3))
    counts = shown_counts(model, latents, words, 1, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    expected = [0, 0, 0]
    for clean in latents:
        noise = torch.randn(1, *clean.shape, generator=generator)
        t = model.schedule.sample_timesteps(1, generator)
        noisy = model.schedule.add_noise(clean[None], noise, t)
        wanted = model.schedule.target(clean[None], noise, t)
        outputs = [model.pipeline.unet(noisy, t, embeds[None]).sample for embeds in words.prompt_embeds]
        errors = [(output - wanted).square().mean().item() for output in outputs]
        expected[errors.index(min(errors))] += 1
    assert counts.tolist() == expected


def test_candidates_are_unrelated_words_and_what_stands_beside_the_concept(words: Knowledge) -> None:
    contexts = ("a photo of {} in a forest", "{}, flat", "a flat drawing of {}", "{}")
    church = target(words.model_copy(update={"contexts": contexts, "unrelated": ("dog", "tree", "chapel")}))
    found = candidates(church, {"church", "chapel"}, 100, random.Random(0))
    assert set(found) == {"dog", "tree", "flat", "in a forest", "a photo of"}
    assert len(candidates(church, set(), 2, random.Random(0))) == 2


def test_anchors_have_each_co_occurring_word_in_each_context() -> None:
    found = anchor_prompts([["a {}", "{}"], ["one {}", "{}"]], [["x", "y", "z"], ["u"]])
    assert found == ["a x", "a y", "a z", "x", "y", "z", *["one u"] * 3, *["u"] * 3]


def test_the_recipe_says_which_words_were_mined(model: DiffusionModel, words: Knowledge) -> None:
    settings = {
        "rounds": "1",
        "search_iterations": "0",
        "inversion_steps": "0",
        "n_images": "3",
        "image_steps": "2",
        "iterations": "1",
        "top_words": "2",
    }
    settings |= {"sample_from": "frozen", "pool": "1", "num_inference_steps": "3"}
    recipe = ReCARE.preset(None, "object", settings).erase(model, [target(words)]).recipe
    (mined,) = recipe.details["co_occurring"]
    assert mined
    assert {*mined} <= {*words.unrelated, "a photo of", "a picture of", "an image of"} - {"church", "chapel"}
