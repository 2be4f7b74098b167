"""Noise schedules: how latents are noised, what a denoiser is trained to return, and the steps of sampling.

Timesteps are float tensors. Methods name noise levels as fractions of the schedule: 0 is clean, 1 is pure
noise.
"""

from __future__ import annotations

import bisect
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .._util.errors import InputError


class PartialSample(NamedTuple):
    """Latents at a noise level of the schedule, and the timestep of their next step (-1 at the end)."""

    latents: Float[Tensor, "batch ..."]
    timestep: float


class PartialSamples(NamedTuple):
    """Latents at noise levels of the schedule, each with the timestep of its next step.

    Finished ones have that of the last step.
    """

    latents: Float[Tensor, "batch ..."]
    timesteps: Float[Tensor, " batch"]


class Sampler(ABC):
    """One run through the steps of sampling; it may remember what earlier calls returned.

    A step is a call of the denoiser or, in samplers of a higher order such as Heun's, several.

    Attributes:
        timesteps: of the calls, in order.
        starts: the call with which each step begins, and last the number of calls.
        initial_scale: factor of unit noise at the first step.
        remembers: whether a step depends on the outputs of earlier ones, so that all samples must take the
            same steps.
    """

    timesteps: Float[Tensor, " calls"]
    starts: Sequence[int]
    initial_scale: float
    remembers: bool

    def start_of(self, step: int) -> int:
        """The call with which a step begins; beyond the last step, the number of calls."""
        return self.starts[min(step, len(self.starts) - 1)]

    def step_of(self, call: int) -> int:
        """The step that a call belongs to."""
        return bisect.bisect_right(self.starts, call) - 1

    def to_schedule(self, latents: Tensor, call: int) -> Tensor:
        """The sampler's latents before a call, as :meth:`NoiseSchedule.add_noise` scales them."""
        return latents if call >= len(self.timesteps) else self.model_input(latents, call)

    def from_schedule(self, latents: Tensor, call: int) -> Tensor:
        """The opposite of :meth:`to_schedule`."""
        return latents / self.to_schedule(latents.new_ones(()), call)

    @abstractmethod
    def model_input(self, latents: Tensor, call: int) -> Tensor:
        """What the denoiser is given for the latents of a call."""

    @abstractmethod
    def step(
        self, output: Tensor, call: int, latents: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """The latents after a call; samplers that add noise draw it from each sample's own generator."""


class NoiseSchedule(ABC):
    """How a family of models adds noise.

    Attributes:
        n_timesteps: number of noise levels in training.
    """

    n_timesteps: int

    def resized(self, n_tokens: int) -> NoiseSchedule:
        """The schedule for another number of image tokens, which decides the noise levels of some."""
        del n_tokens
        return self

    def sample_timesteps(
        self, n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, " n"]:
        """Uniform timesteps between two fractions of the schedule, on the CPU."""
        first = int(low * self.n_timesteps)
        # at least one timestep, also where the two fractions fall on the same
        return torch.randint(
            first, max(first + 1, int(high * self.n_timesteps)), (n,), generator=generator
        ).float()

    def timestep_at(self, fraction: float) -> float:
        """The timestep at a fraction of the schedule."""
        # fraction 1 is the last timestep, not one past it
        return float(min(int(fraction * self.n_timesteps), self.n_timesteps - 1))

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """Latents at the noise level of timesteps."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """What the denoiser should return for :meth:`add_noise`."""

    @abstractmethod
    def to_noise(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """The noise that an output of the denoiser stands for."""

    @abstractmethod
    def to_clean(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """The clean latents that an output of the denoiser stands for."""

    @abstractmethod
    def from_clean(self, clean: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """The output that stands for clean latents; the opposite of :meth:`to_clean`."""

    @abstractmethod
    def sampler(self, num_inference_steps: int) -> Sampler:
        """A new run through the steps of sampling."""

    @abstractmethod
    def ddim_sampler(
        self, num_inference_steps: int, *, eta: float = 0.0, noise_scale: float = 1.0
    ) -> Sampler:
        """A new run through the steps of DDIM (Song et al., arXiv 2010.02502), whatever the model's sampler.

        With ``a`` of the step and ``b`` of the next one, ``x`` the clean latents and ``e`` the noise that the
        output stands for, and fresh unit noise ``z`` of each sample::

            s = eta sqrt((1 - b) / (1 - a)) sqrt(1 - a / b)
            latents = sqrt(b) x + sqrt(max(0, 1 - b - s^2)) e + noise_scale s z

        Args:
            num_inference_steps: length of the schedule.
            eta: part of the noise that is fresh: 0 for none, 1 for that of DDPM; above 1 there is more noise
                than the schedule has.
            noise_scale: factor of the fresh noise.
        """

    def step_timestep(self, num_inference_steps: int, step: int) -> float:
        """The timestep at which a step of sampling is taken."""
        sampler = self.sampler(num_inference_steps)
        return float(sampler.timesteps[sampler.start_of(step)])


class DiffusionSchedule(NoiseSchedule):
    """``x_t = sqrt(a_t) x + sqrt(1 - a_t) e``, from clean latents ``x`` and noise ``e``.

    The denoiser returns the noise ``e`` or the velocity ``sqrt(a_t) e - sqrt(1 - a_t) x``.

    Args:
        signal: ``a_t`` of every timestep, high at the clean end.
        prediction_type: ``epsilon`` or ``v_prediction``.
    """

    def __init__(self, signal: Float[Tensor, " timesteps"], prediction_type: str) -> None:
        self.signal = signal
        self.prediction_type = prediction_type
        self.n_timesteps = len(signal)

    def _signal(self, timesteps: Tensor, latents: Tensor) -> Tensor:
        """``a_t`` of each sample, shaped to multiply latents of any rank."""
        return (
            # (batch,) -> (batch, 1, ...); a single timestep gives one row for all
            self.signal.to(timesteps.device)[timesteps.long()]
            .view(-1, *[1] * (latents.ndim - 1))
            .to(latents.device)
        )

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.add_noise`."""
        # the two squares sum to 1, so that latents of unit variance keep it
        signal = self._signal(timesteps, clean)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.target`."""
        if self.prediction_type == "epsilon":
            return noise
        signal = self._signal(timesteps, clean)
        # velocity: sqrt(a) e - sqrt(1 - a) x
        return signal.sqrt() * noise - (1 - signal).sqrt() * clean

    def to_noise(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.to_noise`."""
        if self.prediction_type == "epsilon":
            return output
        signal = self._signal(timesteps, latents)
        # e = sqrt(a) v + sqrt(1 - a) x_t, without a division
        return signal.sqrt() * output + (1 - signal).sqrt() * latents

    def to_clean(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.to_clean`."""
        signal = self._signal(timesteps, latents)
        if self.prediction_type == "epsilon":
            # x = (x_t - sqrt(1 - a) e) / sqrt(a): huge where hardly any signal is left
            return (latents - (1 - signal).sqrt() * output) / signal.sqrt()
        return signal.sqrt() * latents - (1 - signal).sqrt() * output  # finite where no signal is left

    def from_clean(self, clean: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.from_clean`."""
        signal = self._signal(timesteps, latents)
        noise = (latents - signal.sqrt() * clean) / (1 - signal).sqrt()
        return self.target(clean, noise, timesteps)


class FlowMatchingSchedule(NoiseSchedule):
    """``x_t = (1 - s) x + s e`` from clean latents ``x`` and noise ``e``, at the noise level ``s = t / n``.

    The denoiser returns the velocity ``e - x``.

    Args:
        timesteps: ``t`` of every fraction of the schedule, rising to ``n``.
    """

    def __init__(self, timesteps: Float[Tensor, " timesteps"]) -> None:
        self.timesteps = timesteps
        self.n_timesteps = len(timesteps)

    def sample_timesteps(
        self, n: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, " n"]:
        """See :meth:`NoiseSchedule.sample_timesteps`; uniform before the shift towards noise."""
        return self.timesteps[super().sample_timesteps(n, generator, low, high).long()]

    def timestep_at(self, fraction: float) -> float:
        """See :meth:`NoiseSchedule.timestep_at`."""
        return float(self.timesteps[int(super().timestep_at(fraction))])

    def _level(self, timesteps: Tensor, latents: Tensor) -> Tensor:
        """``s`` of each sample, shaped to multiply latents of any rank."""
        # (batch,) -> (batch, 1, ...)
        return timesteps.to(latents).view(-1, *[1] * (latents.ndim - 1)) / self.n_timesteps

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.add_noise`."""
        level = self._level(timesteps, clean)
        return (1 - level) * clean + level * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.target`."""
        del timesteps
        return noise - clean

    def to_noise(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.to_noise`."""
        return latents + (1 - self._level(timesteps, latents)) * output

    def to_clean(self, output: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.to_clean`."""
        return latents - self._level(timesteps, latents) * output

    def from_clean(self, clean: Tensor, latents: Tensor, timesteps: Float[Tensor, " batch"]) -> Tensor:
        """See :meth:`NoiseSchedule.from_clean`."""
        return (latents - clean) / self._level(timesteps, latents)

    def ddim_sampler(
        self, num_inference_steps: int, *, eta: float = 0.0, noise_scale: float = 1.0
    ) -> Sampler:
        """Not defined.

        Raises:
            InputError: always.
        """
        del num_inference_steps, eta, noise_scale
        raise InputError("This model was trained by flow matching, which has no steps of DDIM.")


def row_generators(noise: Float[Tensor, "batch ..."]) -> list[torch.Generator]:
    """A CPU generator for each sample, seeded by the sample's own noise.

    Samplers that add noise draw from it, so that an image depends on its own seed and on nothing else of its
    batch.
    """
    # bytes in memory order, the same on every device
    rows = noise.detach().cpu().contiguous()
    return [torch.Generator().manual_seed(zlib.crc32(row.numpy().tobytes())) for row in rows]
