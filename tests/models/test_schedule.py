"""Noise schedules against formulas in NumPy, for latents of any rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgrace._util.errors import InputError
from sgrace.models import DiffusionModel
from sgrace.models.schedule import DiffusionSchedule, Sampler

from .made import tiny_model

SIGNAL = torch.linspace(0.999, 0.001, 1000)
SHAPES = [(3, 7), (3, 5, 4), (3, 2, 4, 4), (3, 2, 2, 3, 3)]
TIMESTEPS = torch.tensor([0.0, 400.0, 999.0])


class Plain(DiffusionSchedule):
    """The formulas alone."""

    def sampler(self, num_inference_steps: int) -> Sampler:
        raise NotImplementedError

    def ddim_sampler(
        self, num_inference_steps: int, *, eta: float = 0.0, noise_scale: float = 1.0
    ) -> Sampler:
        raise NotImplementedError


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_formulas(prediction_type: str, shape: tuple[int, ...]) -> None:
    own = Plain(SIGNAL, prediction_type)
    clean = random(*shape, seed=0)
    noise = random(*shape, seed=1)
    alpha = SIGNAL.double().numpy()[TIMESTEPS.long().numpy()].reshape(-1, *[1] * (len(shape) - 1))
    x = clean.double().numpy()
    e = noise.double().numpy()
    noisy = own.add_noise(clean, noise, TIMESTEPS)
    target = own.target(clean, noise, TIMESTEPS)
    np.testing.assert_allclose(noisy.numpy(), np.sqrt(alpha) * x + np.sqrt(1 - alpha) * e, atol=1e-5)
    velocity = np.sqrt(alpha) * e - np.sqrt(1 - alpha) * x
    np.testing.assert_allclose(target.numpy(), e if prediction_type == "epsilon" else velocity, atol=1e-5)
    torch.testing.assert_close(own.to_noise(target, noisy, TIMESTEPS), noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own.to_clean(target, noisy, TIMESTEPS), clean, atol=1e-3, rtol=1e-3)


@given(st.integers(0, 999), st.sampled_from(["epsilon", "v_prediction"]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_what_is_read_from_the_right_output_is_what_went_in(
    timestep: int, prediction_type: str, seed: int
) -> None:
    own = Plain(SIGNAL, prediction_type)
    clean = random(1, 4, 3, seed=seed)
    noise = random(1, 4, 3, seed=seed + 1)
    at = torch.tensor([float(timestep)])
    noisy = own.add_noise(clean, noise, at)
    output = own.target(clean, noise, at)
    torch.testing.assert_close(own.to_noise(output, noisy, at), noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(own.to_clean(output, noisy, at), clean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(own.from_clean(clean, noisy, at), output, atol=1e-3, rtol=1e-3)


def test_velocity_is_read_where_no_signal_is_left() -> None:
    own = Plain(torch.tensor([1.0, 0.5, 0.0]), "v_prediction")
    clean = random(1, 4, seed=0)
    noise = random(1, 4, seed=1)
    last = torch.tensor([2.0])
    found = own.to_clean(own.target(clean, noise, last), own.add_noise(clean, noise, last), last)
    torch.testing.assert_close(found, clean)


@given(st.integers(0, 10_000), st.floats(0, 0.9), st.floats(0.05, 1))
@settings(max_examples=40, deadline=None)
def test_timesteps_lie_between_their_fractions(seed: int, low: float, width: float) -> None:
    own = Plain(SIGNAL, "epsilon")
    high = min(1.0, low + width)
    found = own.sample_timesteps(50, torch.Generator().manual_seed(seed), low, high)
    assert found.dtype == torch.float32
    assert int(low * 1000) <= found.min()
    assert found.max() < max(int(low * 1000) + 1, int(high * 1000))
    assert found.equal(own.sample_timesteps(50, torch.Generator().manual_seed(seed), low, high))


def test_fractions_are_timesteps(model: DiffusionModel) -> None:
    own = model.schedule
    assert own.timestep_at(0.0) == 0.0
    assert own.timestep_at(0.5) == 500.0
    assert own.timestep_at(1.0) == 999.0
    steps = [own.step_timestep(10, step) for step in range(10)]
    assert steps == sorted(steps, reverse=True)
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(10)
    assert steps == scheduler.timesteps.float().tolist()


def test_the_schedule_is_the_schedulers(model: DiffusionModel) -> None:
    clean = model.noise(3, torch.Generator().manual_seed(0))
    noise = model.noise(3, torch.Generator().manual_seed(1))
    scheduler = model.pipeline.scheduler
    official = scheduler.add_noise(clean, noise, TIMESTEPS.long())
    torch.testing.assert_close(model.schedule.add_noise(clean, noise, TIMESTEPS), official)
    if scheduler.config.prediction_type == "v_prediction":
        velocity = scheduler.get_velocity(clean, noise, TIMESTEPS.long())
        torch.testing.assert_close(model.schedule.target(clean, noise, TIMESTEPS), velocity)


def test_a_denoiser_of_another_kind_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"DDIMScheduler .*'sample' is not supported.* epsilon or v_prediction"
    ):
        tiny_model("sample")
