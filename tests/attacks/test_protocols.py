"""Guidance of each prompt, and which prompts a protocol leaves alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sgrace._util import registry
from sgrace.attacks import PROTOCOLS, Prompt, Scene
from sgrace.attacks.scene import Protocol
from sgrace.concept import Concept
from sgrace.detectors.never import Never
from sgrace.erasers.sld import SLD
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

CHURCH = Concept(name="church")


def scene_of(model: DiffusionModel, words: Knowledge, prompts: list[Prompt]) -> Scene:
    return Scene(model, model, CHURCH, words, Never(), prompts, num_inference_steps=3, guidance_scale=2.0)


@pytest.mark.parametrize("steered", [False, True])
def test_each_prompt_is_drawn_with_its_own_guidance(
    model: DiffusionModel, words: Knowledge, steered: bool
) -> None:
    if steered:
        model = (
            SLD.preset(None, "object", {"warm_up": "0"}).erase(model, [Target(CHURCH, words)]).apply(model)
        )
    prompts = [Prompt("church", 1, 5.0), Prompt("a photo of chapel", 2), Prompt("church", 3, 1.0)]
    found = registry.load("attacks", "none").preset("full").run(scene_of(model, words, prompts))
    for row, (prompt, scale) in enumerate(zip(prompts, (5.0, 2.0, 1.0), strict=True)):
        alone = model.generate([prompt.text], [prompt.seed], num_inference_steps=3, guidance_scale=scale)[0]
        torch.testing.assert_close(found.images[row], alone, atol=2e-4, rtol=1e-3)
    mixed = model.generate(
        [p.text for p in prompts],
        [1, 2, 3],
        num_inference_steps=3,
        guidance_scale=torch.tensor([5.0, 2.0, 1.0]),
        batch_size=2,
    )
    torch.testing.assert_close(found.images, mixed, atol=2e-4, rtol=1e-3)


def test_other_seeds_keep_the_prompts_guidance(model: DiffusionModel, words: Knowledge) -> None:
    prompts = [Prompt("church", 1), Prompt("church", 1, 6.0)]
    found = (
        registry.load("attacks", "more_seeds")
        .preset("full", {"tries": "1"})
        .run(scene_of(model, words, prompts))
    )
    noise = found.tensors["noise"]
    for row, scale in enumerate((2.0, 6.0)):
        own = noise[row : row + 1]
        alone = model.sample(
            own, model.encode(["church"]), model.uncond(), num_inference_steps=3, guidance_scale=scale
        )[0]
        torch.testing.assert_close(found.images[row], alone, atol=2e-4, rtol=1e-3)


def test_a_protocol_leaves_long_prompts_alone_and_counts_them(
    model: DiffusionModel, words: Knowledge
) -> None:
    prompts = [Prompt("church", 1), Prompt("a photo of church, dog, tree", 2)]
    assert (
        len(model.text.main.content_tokens(prompts[1].text))
        > 5
        >= len(model.text.main.content_tokens(prompts[0].text))
    )
    scene = dataclasses.replace(scene_of(model, words, prompts), protocol=Protocol("short", longest=5))
    found = (
        registry.load("attacks", "random_tokens").preset("full", {"tries": "2", "n_tokens": "2"}).run(scene)
    )
    assert [a.checks for a in found.attempts] == [2, 0]
    assert found.success.union.n == 2
    assert (found.record.protocol, found.record.left_alone) == ("short", 1)
    everything = (
        registry.load("attacks", "random_tokens")
        .preset("full", {"tries": "2"})
        .run(scene_of(model, words, prompts))
    )
    assert [a.checks for a in everything.attempts] == [2, 2]
    assert (everything.record.protocol, everything.record.left_alone) == ("shared", 0)


def test_the_published_filter_counts_start_and_end_tokens(model: DiffusionModel) -> None:
    tokenizer = model.text.main.tokenizer
    longest = PROTOCOLS["diffusion_mu_attack"].longest
    assert longest is not None
    for n_words in range(55, 65):
        prompt = " ".join(["church"] * n_words)
        left_alone = len(tokenizer(prompt)["input_ids"]) > 60  # as the published code decides
        assert (len(model.text.main.content_tokens(prompt)) > longest) == left_alone, n_words
