"""Stochastic DDIM against diffusers, and where diffusers' formula ends."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace.models import DiffusionModel
from sgrace.models.families._scheduler import SchedulerSchedule

STEPS = 10


def schedule_of(prediction_type: str, spacing: str = "leading") -> SchedulerSchedule:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing=spacing,
        rescale_betas_zero_snr=spacing == "trailing",
    )
    return SchedulerSchedule(scheduler)


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_is_that_of_diffusers(prediction_type: str, eta: float) -> None:
    schedule = schedule_of(prediction_type)
    scheduler = DDIMScheduler.from_config(schedule.scheduler.config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(STEPS)
    sampler = schedule.ddim_sampler(STEPS, eta=eta)
    assert torch.equal(sampler.timesteps, scheduler.timesteps.float())
    output, latents = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    for step, timestep in enumerate(scheduler.timesteps):
        wanted = scheduler.step(output, timestep, latents, eta=eta, generator=generators(3)).prev_sample
        found = sampler.step(output, step, latents, generators(3))
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@given(
    st.floats(0, 3), st.floats(0.5, 2), st.integers(0, STEPS - 1), st.sampled_from(["leading", "trailing"])
)
@settings(deadline=None)
def test_a_step_is_its_formula_at_any_eta(eta: float, noise_scale: float, step: int, spacing: str) -> None:
    schedule = schedule_of("v_prediction", spacing)
    sampler = schedule.ddim_sampler(STEPS, eta=eta, noise_scale=noise_scale)
    output, latents = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    after = sampler.timesteps[step + 1].long() if step < STEPS - 1 else None
    now = schedule.signal[sampler.timesteps[step].long()].item()
    then = 1.0 if after is None else schedule.signal[after].item()
    clean = math.sqrt(now) * latents - math.sqrt(1 - now) * output
    noise = math.sqrt(now) * output + math.sqrt(1 - now) * latents
    fresh = eta * math.sqrt((1 - then) / (1 - now)) * math.sqrt(max(0.0, 1 - now / then))
    kept = math.sqrt(max(0.0, 1 - then - fresh**2))
    drawn = torch.stack([torch.randn(3, generator=g, dtype=torch.float64) for g in generators(2)])
    wanted = math.sqrt(then) * clean + kept * noise + noise_scale * fresh * drawn
    torch.testing.assert_close(
        sampler.step(output, step, latents, generators(2)), wanted, atol=1e-3, rtol=1e-4
    )


def test_an_image_depends_on_no_other_of_its_batch(model: DiffusionModel) -> None:
    noise = model.initial_noise([1, 2, 3])
    cond = model.encode(["a photo of church", "dog", "a boat"])

    def drawn(rows: list[int], eta: float) -> torch.Tensor:
        sampler = model.schedule.ddim_sampler(4, eta=eta)
        return model.denoise(
            noise[rows],
            cond[rows],
            model.uncond(),
            num_inference_steps=4,
            guidance_scale=2.0,
            sampler=sampler,
        ).latents

    whole = drawn([0, 1, 2], 1.85)
    assert torch.isfinite(whole).all()
    torch.testing.assert_close(drawn([1], 1.85), whole[1:2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(drawn([1], 1.0), whole[1:2], atol=1e-2)
