"""The steps of sampling, by any scheduler of diffusers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ..._util.errors import InputError
from ..schedule import DiffusionSchedule, Sampler

#: What a denoiser of the families here may have been trained to return.
PREDICTIONS = ("epsilon", "v_prediction")


class SchedulerSampler(Sampler):
    """A scheduler's steps; the scheduler itself is copied, as it remembers where it stands.

    Args:
        scheduler: of diffusers.
        num_inference_steps: length of the schedule.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int) -> None:  # noqa: ANN401  (schedulers share no base)
        self._scheduler = copy.deepcopy(scheduler)
        self._scheduler.set_timesteps(num_inference_steps)
        self.timesteps = self._scheduler.timesteps.float()
        self.starts = self._starts(num_inference_steps)
        self.initial_scale = float(self._scheduler.init_noise_sigma)
        # only of DDIM it is known that a step depends on nothing but its latents
        self.remembers = not isinstance(scheduler, DDIMScheduler)
        # schedulers that may add noise take generators
        self._draws = "generator" in inspect.signature(scheduler.step).parameters

    def _starts(self, num_inference_steps: int) -> list[int]:
        """Calls of the denoiser before each step; more calls than steps are spent from the first step on.

        PNDM's Runge-Kutta warm-up takes 4 calls a step, and Heun, KDPM2 and PNDM without it take 2.
        """
        n_calls = len(self.timesteps)
        more = max(0, n_calls - num_inference_steps)
        calls = 2 if self._scheduler.config.get("skip_prk_steps", True) else 4
        return [min(calls * k, k + more, n_calls) for k in range(num_inference_steps)] + [n_calls]

    def model_input(self, latents: Tensor, call: int) -> Tensor:
        """See :meth:`Sampler.model_input`."""
        scaled: Tensor = self._scheduler.scale_model_input(latents, self._scheduler.timesteps[call])
        return scaled

    def step(
        self, output: Tensor, call: int, latents: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """See :meth:`Sampler.step`."""
        noise = {"generator": list(generators)} if self._draws else {}
        stepped: Tensor = self._scheduler.step(
            output, self._scheduler.timesteps[call], latents, **noise
        ).prev_sample
        return stepped


class DDIMSampler(Sampler):
    """Steps of :meth:`NoiseSchedule.ddim_sampler`; diffusers' own are not defined where ``eta`` is above 1.

    Args:
        schedule: reads the denoiser's output.
        num_inference_steps, eta, noise_scale: see there.
    """

    initial_scale = 1.0
    remembers = False

    def __init__(
        self, schedule: SchedulerSchedule, num_inference_steps: int, eta: float, noise_scale: float
    ) -> None:
        scheduler = DDIMScheduler.from_config(schedule.scheduler.config)
        scheduler.set_timesteps(num_inference_steps)
        self.timesteps = scheduler.timesteps.float()
        self.starts = range(num_inference_steps + 1)
        signal = scheduler.alphas_cumprod[scheduler.timesteps]
        self._signal = torch.cat([signal, scheduler.final_alpha_cumprod.view(1)])  # one more than calls
        self._schedule = schedule
        self._eta = eta
        self._noise_scale = noise_scale

    def model_input(self, latents: Tensor, call: int) -> Tensor:
        """See :meth:`Sampler.model_input`."""
        del call
        return latents

    def step(
        self, output: Tensor, call: int, latents: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """See :meth:`Sampler.step`."""
        timesteps = self.timesteps[call].expand(len(latents))
        clean = self._schedule.to_clean(output, latents, timesteps)
        noise = self._schedule.to_noise(output, latents, timesteps)
        now = self._signal[call].to(latents.device)
        then = self._signal[call + 1].to(latents.device)
        fresh = self._eta * ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        kept = (1 - then - fresh**2).clamp(min=0).sqrt()
        stepped = then.sqrt() * clean + kept * noise
        if not self._eta:
            return stepped
        drawn = [torch.randn(latents.shape[1:], generator=g, dtype=latents.dtype) for g in generators]
        return stepped + self._noise_scale * fresh * torch.stack(drawn).to(latents.device)


class SchedulerSchedule(DiffusionSchedule):
    """The noise schedule of a diffusers scheduler that was trained on noise or velocity.

    Raises:
        InputError: the scheduler is for a denoiser of another kind.
    """

    def __init__(self, scheduler: Any) -> None:  # noqa: ANN401
        kind = str(scheduler.config.get("prediction_type"))
        if kind not in PREDICTIONS or not hasattr(scheduler, "alphas_cumprod"):
            raise InputError(
                f"The scheduler {type(scheduler).__name__} with prediction_type {kind!r} is not supported; "
                f"the denoiser must predict {' or '.join(PREDICTIONS)}."
            )
        super().__init__(scheduler.alphas_cumprod, kind)
        self.scheduler = scheduler

    def sampler(self, num_inference_steps: int) -> SchedulerSampler:
        """See :meth:`NoiseSchedule.sampler`."""
        return SchedulerSampler(self.scheduler, num_inference_steps)

    def ddim_sampler(
        self, num_inference_steps: int, *, eta: float = 0.0, noise_scale: float = 1.0
    ) -> DDIMSampler:
        """See :meth:`NoiseSchedule.ddim_sampler`."""
        return DDIMSampler(self, num_inference_steps, eta, noise_scale)
