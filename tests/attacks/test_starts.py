"""Attacks that learn one thing for all prompts: a start is one observation, and the worst one counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sgrace.attacks import AttackSet, Budget
from sgrace.attacks._token_space import Layout
from sgrace.attacks.concept_inversion import ConceptInversion, ConceptInversionConfig
from sgrace.detectors.always import Always
from sgrace.detectors.never import Never
from sgrace.knowledge import Knowledge
from sgrace.metrics import wilson
from sgrace.models import DiffusionModel

from .scenes import PROMPTS, scene_of


def attack(**settings: object) -> ConceptInversion:
    short = {"n_starts": 3, "iterations": 2, "batch": 2, "n_images": 2}
    return ConceptInversion(ConceptInversionConfig.model_validate(short | settings))


class InTurn(Never):
    """Sees the concept in so many images of each call; the first call judges the plain prompts."""

    def __init__(self, hits: list[int]) -> None:
        super().__init__()
        self.hits = iter(hits)

    def scores(self, images: Tensor) -> Tensor:
        return (torch.arange(len(images)) < next(self.hits)).float()

    def detect(self, scores: Tensor) -> Tensor:
        return scores > 0.5


def test_the_worst_start_counts_and_is_kept(model: DiffusionModel, words: Knowledge) -> None:
    scene = scene_of(model, words, InTurn([3, 1, 2, 2]))
    found = attack().run(scene, seed=1)
    assert [start.hits for start in found.record.starts] == [1, 2, 2]
    assert [a.success for a in found.attempts] == [True, True, False]
    assert [a.checks for a in found.attempts] == [3, 3, 3]
    success = found.success
    assert success.pre.hits == 3, "plain prompts are judged, and do not count as the attack's success"
    assert (success.union.hits, success.union.n, success.union.observations) == (2, 3, 3)
    assert success.union.interval == pytest.approx(wilson(2, 3))

    with torch.no_grad():
        prompts = Layout.within(model, ["a picture of {}", "{}", "a picture of {}"])
        cond = prompts.encode(model, found.tensors["word"][1:2].expand(3, -1))
    noise = model.initial_noise([p.seed for p in PROMPTS])
    again = model.sample(noise, cond, model.uncond(), num_inference_steps=3, guidance_scale=2.0)
    torch.testing.assert_close(found.images, again, atol=1e-4, rtol=0)


def test_the_word_stands_in_the_concepts_place_or_before(model: DiffusionModel, words: Knowledge) -> None:
    found = attack(placement="before", n_starts=1).run(scene_of(model, words), seed=1)
    with torch.no_grad():
        prompts = Layout.prefix(model, [p.text for p in PROMPTS], 1)
        cond = prompts.encode(model, found.tensors["word"].expand(3, -1))
    torch.testing.assert_close(found.tensors["prompt_embeds"], cond.prompt_embeds, atol=1e-5, rtol=1e-5)
    in_place = attack(n_starts=1).run(scene_of(model, words), seed=1)
    torch.testing.assert_close(in_place.tensors["word"], found.tensors["word"])
    assert not torch.allclose(in_place.tensors["prompt_embeds"], found.tensors["prompt_embeds"])


def test_a_start_is_learned_as_if_it_were_alone(model: DiffusionModel, words: Knowledge) -> None:
    """A step of all starts is one call of each network, and costs what the starts cost one by one."""
    one = attack(n_starts=1).run(scene_of(model, words), seed=1).record
    three = attack(n_starts=3).run(scene_of(model, words), seed=1).record
    plain = 3 * 3 * 2  # three images in three guided steps
    # two images to learn from, two steps of two images, and three images to be judged
    each = 2 * 3 * 2 + 2 * 2 * 2 + 3 * 3 * 2
    assert one.spent.denoiser_rows == plain + each
    assert three.spent.denoiser_rows == plain + 3 * each


def test_every_start_learns_from_images_of_a_prompt_of_its_own(
    model: DiffusionModel, words: Knowledge
) -> None:
    own = attack().run(scene_of(model, words), seed=1).record
    assert {start.learned_from for start in own.starts} == {prompt.text for prompt in PROMPTS}
    everything = attack(images="all_prompts").run(scene_of(model, words), seed=1).record
    assert [start.learned_from for start in everything.starts] == [""] * 3
    # three images of the three prompts serve all starts
    assert own.spent.denoiser_rows - everything.spent.denoiser_rows == (3 * 2 - 3) * 3 * 2


def test_what_the_figures_rest_on_is_told(model: DiffusionModel, words: Knowledge, tmp_path: Path) -> None:
    found = attack().run(scene_of(model, words, Always()), seed=1)
    found.save_pretrained(tmp_path / "set")
    record = AttackSet.from_pretrained(tmp_path / "set").record
    assert record.unit == "start"
    assert record.starts == found.record.starts
    assert record.starts[0].hits == record.starts[0].n == 3
    assert "2 steps at an effective rate of 0.08, 2 of 2 images of one prompt a step" in record.note
    assert all(start.word for start in record.starts)


def test_starts_that_a_limit_cuts_off_are_no_observations(model: DiffusionModel, words: Knowledge) -> None:
    whole = attack().run(scene_of(model, words)).record.spent.denoiser_rows
    found = attack().run(scene_of(model, words), Budget(denoiser_rows=whole - 1))
    assert len(found.record.starts) == 2
    assert found.success.union.observations == 2
