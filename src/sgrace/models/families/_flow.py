"""Flow matching with the scheduler of diffusers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ..._util.errors import InputError
from ..schedule import FlowMatchingSchedule, Sampler


class FlowSampler(Sampler):
    """Euler steps between the noise levels of a scheduler, whose timesteps are set.

    Args:
        scheduler: of diffusers; it is read only.
    """

    initial_scale = 1.0
    remembers = False

    def __init__(self, scheduler: FlowMatchEulerDiscreteScheduler) -> None:
        self.timesteps = scheduler.timesteps.float()
        self.starts = range(len(self.timesteps) + 1)
        self._levels: Tensor = scheduler.sigmas  # one more than calls
        self._draws = bool(scheduler.config.stochastic_sampling)

    def model_input(self, latents: Tensor, call: int) -> Tensor:
        """See :meth:`Sampler.model_input`."""
        del call
        return latents

    def step(
        self, output: Tensor, call: int, latents: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """See :meth:`Sampler.step`."""
        now = self._levels[call].to(latents.device)
        then = self._levels[call + 1].to(latents.device)
        if not self._draws:
            return latents + (then - now) * output
        clean = latents - now * output
        drawn = [torch.randn(latents.shape[1:], generator=g, dtype=latents.dtype) for g in generators]
        return (1 - then) * clean + then * torch.stack(drawn).to(latents.device)


class SchedulerFlow(FlowMatchingSchedule):
    """The noise schedule of diffusers' scheduler of flow matching.

    Noise levels are shifted towards noise as the scheduler says, in training as in sampling: by a constant,
    or by the number of image tokens.

    Args:
        scheduler: of diffusers.
        n_tokens: image tokens of the denoiser.
        even: sampling takes the levels 1, 1 - 1/n ... 1/n before the shift; else those of the scheduler.

    Raises:
        InputError: the scheduler is of another kind.
    """

    def __init__(self, scheduler: Any, n_tokens: int, *, even: bool) -> None:  # noqa: ANN401  (of diffusers)
        if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            raise InputError(
                f"The scheduler {type(scheduler).__name__} is not supported for this model; use "
                "FlowMatchEulerDiscreteScheduler."
            )
        config: Any = scheduler.config
        self.scheduler = scheduler
        self._even = even
        self._mu = None
        n = int(config.num_train_timesteps)
        levels = torch.arange(1, n + 1) / n
        if config.use_dynamic_shifting:
            self._mu = _shift_of(config, n_tokens)
            levels = scheduler.time_shift(self._mu, 1.0, levels)
        else:
            levels = scheduler.shift * levels / (1 + (scheduler.shift - 1) * levels)
        super().__init__(levels * n)

    def resized(self, n_tokens: int) -> SchedulerFlow:
        """See :meth:`NoiseSchedule.resized`."""
        return SchedulerFlow(self.scheduler, n_tokens, even=self._even)

    def sampler(self, num_inference_steps: int) -> FlowSampler:
        """See :meth:`NoiseSchedule.sampler`."""
        n = num_inference_steps
        scheduler = copy.deepcopy(self.scheduler)
        levels = np.linspace(1.0, 1 / n, n).tolist() if self._even else None
        scheduler.set_timesteps(n, sigmas=levels, mu=self._mu)
        return FlowSampler(scheduler)


def _shift_of(config: Any, n_tokens: int) -> float:  # noqa: ANN401  (of diffusers)
    """The shift of a number of image tokens, on a line through two known ones."""
    few = config.base_image_seq_len
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - few)
    return float(config.base_shift + slope * (n_tokens - few))
