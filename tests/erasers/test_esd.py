"""ESD and RACE: partial samples, cost, both forms of the target, and the attack within its box."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from sgrace.concept import Concept
from sgrace.erasers._shared.partial_samples import Samples, outputs, partial_samples
from sgrace.erasers._shared.student import Student
from sgrace.erasers.esd import ESD
from sgrace.erasers.race import RACE
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

from .cases import CASES

CHURCH = Concept(name="church")


def erased(model: DiffusionModel, words: Knowledge, settings: Mapping[str, str]) -> Erasure:
    return ESD.preset(None, "object", settings).erase(model, [Target(CHURCH, words)])


@pytest.mark.parametrize("sample_from", ["frozen", "edited"])
def test_esd_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, sample_from: str
) -> None:
    settings = {
        "iterations": "3",
        "batch": "2",
        "pool": "4",
        "num_inference_steps": "4",
        "sample_from": sample_from,
    }
    cost = erased(model, words, settings).recipe.cost
    assert cost.text_encoder_calls == 2
    samples = 4 if sample_from == "frozen" else 3 * 2
    fixed = 3 * 2 + 2 * samples  # student steps, and two outputs of the teacher for each sample
    assert cost.denoiser_rows is not None
    assert fixed <= cost.denoiser_rows <= fixed + 2 * 3 * samples, "a sample stops before its fourth step"


def test_both_forms_of_esd_agree_where_they_should(model: DiffusionModel, words: Knowledge) -> None:
    common = {**CASES["esd"].short, "site": "x-strict"}
    a = erased(model, words, {**common, "form": "A", "negative_guidance": "1"})
    b = erased(model, words, {**common, "form": "B", "negative_guidance": "2"})
    for name, value in a.tensors["unet"].items():
        torch.testing.assert_close(value, b.tensors["unet"][name], atol=2e-5, rtol=1e-3)


def test_each_sample_is_denoised_to_its_own_stop(model: DiffusionModel) -> None:
    cond = model.encode(["church", "dog", "tree"])
    uncond = model.uncond()
    noise = model.initial_noise([1, 2, 3])
    stops = [2, 0, 5]
    model.calls.denoiser_rows = 0
    found = model.denoise_each(noise, cond, uncond, num_inference_steps=5, guidance_scale=2.0, stops=stops)
    assert model.calls.denoiser_rows == 2 * sum(stops)
    for i, stop in enumerate(stops):
        alone = model.denoise(
            noise[[i]], cond[[i]], uncond, num_inference_steps=5, guidance_scale=2.0, stop=stop
        )
        torch.testing.assert_close(found.latents[[i]], alone.latents, atol=1e-5, rtol=1e-4)
        if alone.timestep >= 0:
            assert found.timesteps[i] == alone.timestep


def test_a_large_pool_is_made_in_parts(model: DiffusionModel) -> None:
    with torch.no_grad():
        cond = model.encode(["church", "dog", "tree", "boat", "house"])
        uncond = model.uncond()

    def pool() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        found = partial_samples(model, cond, uncond, generator, num_inference_steps=5, guidance_scale=2.0)
        return [*found, *outputs(model, found.latents, found.timesteps, [cond, uncond.expand(len(cond))])]

    whole = pool()
    model.batch_size = 2
    for part, expected in zip(pool(), whole, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-4)


def test_race_attacks_within_its_box_and_lowers_the_noise_error(model: DiffusionModel) -> None:
    settings = {"plain_iterations": "0", "attack_steps": "8", "radius": "0.2"}
    race = RACE.preset(None, "object", settings)
    student = Student.of(model, race.site)
    with torch.no_grad():
        cond = model.encode(["church", "dog"])
    own = cond.prompt_embeds
    noise = model.initial_noise([1, 2])
    timesteps = torch.tensor([500.0, 700.0])
    noisy = model.schedule.add_noise(torch.zeros_like(noise), noise, timesteps)
    samples = Samples(noisy, timesteps, cond, noise, noise)
    attacked = race.condition(student, samples, 0, torch.Generator().manual_seed(0)).prompt_embeds
    assert (attacked - own).abs().max() <= 0.2 + 1e-6
    assert attacked.amax((1, 2)).le(own.amax((1, 2)) + 1e-6).all()
    assert attacked.amin((1, 2)).ge(own.amin((1, 2)) - 1e-6).all()

    def error(prompt_embeds: Tensor) -> float:
        output = model.predict(noisy, timesteps, cond.with_embeds(prompt_embeds))
        return (model.schedule.to_noise(output, noisy, timesteps) - noise).square().mean().item()

    assert error(attacked) < error(own)
    again = race.condition(student, samples, 0, torch.Generator().manual_seed(0))
    assert again.prompt_embeds.equal(attacked)
