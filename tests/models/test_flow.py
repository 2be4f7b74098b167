"""Flow matching: the formulas, the shift, and steps of the scheduler."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError
from sgrace.models.families._flow import SchedulerFlow


def flow(shift: float = 3.0, *, even: bool = False, dynamic: bool = False) -> SchedulerFlow:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=dynamic)
    return SchedulerFlow(scheduler, 256, even=even)


@given(st.floats(0.01, 1.0), st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_noise_and_clean_latents_come_back_from_the_velocity(level: float, seed: int) -> None:
    schedule = flow()
    clean, noise = torch.randn(
        2, 3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    timesteps = torch.full((3,), 1000 * level, dtype=torch.float64)
    noisy = schedule.add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noisy, (1 - level) * clean + level * noise)
    velocity = schedule.target(clean, noise, timesteps)
    torch.testing.assert_close(schedule.to_noise(velocity, noisy, timesteps), noise)
    torch.testing.assert_close(schedule.to_clean(velocity, noisy, timesteps), clean)
    torch.testing.assert_close(schedule.from_clean(clean, noisy, timesteps), velocity)


def test_training_sees_the_levels_of_the_scheduler() -> None:
    """A shift of 3 moves the middle of the schedule to three quarters of the noise."""
    official = FlowMatchEulerDiscreteScheduler(shift=3.0).timesteps.flip(0)
    schedule = flow()
    torch.testing.assert_close(schedule.timesteps, official)
    assert schedule.timestep_at(0.5) == pytest.approx(750, abs=1)
    assert schedule.timestep_at(1.0) == 1000
    drawn = schedule.sample_timesteps(200, torch.Generator().manual_seed(0), 0.5, 0.75)
    assert set(drawn.tolist()) <= set(official[500:750].tolist())
    assert len(set(drawn.tolist())) > 50
    # 256 tokens: the lower end of the line of shifts, exp(0.5)
    assert flow(dynamic=True).timestep_at(0.5) == pytest.approx(1000 / (1 + torch.e**-0.5), abs=1)


@pytest.mark.parametrize("even", [False, True])
def test_steps_are_those_of_the_scheduler(*, even: bool) -> None:
    """Exact velocities lead from noise to the clean latents in any number of steps, and back in."""
    schedule = flow(even=even)
    sampler = schedule.sampler(4)
    clean, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    latents = noise * sampler.initial_scale
    for call in range(4):
        timesteps = sampler.timesteps[call].expand(1)
        torch.testing.assert_close(latents, schedule.add_noise(clean, noise, timesteps))
        latents = sampler.step(noise - clean, call, latents, [])
    torch.testing.assert_close(latents, clean)
    first = 1000 * 3 * 0.75 / (1 + 2 * 0.75)  # level 3/4 after a shift of 3
    assert (float(sampler.timesteps[1]) == pytest.approx(first)) == even
    assert not sampler.remembers


def test_fresh_noise_is_drawn_for_each_sample_by_itself() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    sampler = SchedulerFlow(scheduler, 256, even=False).sampler(2)
    latents = torch.ones(2, 4, 2, 2)

    def step(*seeds: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return sampler.step(latents, 0, latents, generators)

    assert step(1, 2)[1].equal(step(3, 2)[1])
    assert not step(1, 2)[0].equal(step(3, 2)[0])


def test_what_flow_matching_has_not_is_told() -> None:
    with pytest.raises(InputError, match="no steps of DDIM"):
        flow().ddim_sampler(4)
    with pytest.raises(InputError, match="DDIMScheduler is not supported for this model"):
        SchedulerFlow(DDIMScheduler(), 256, even=False)
