"""Sampling that stops at another step for each sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .guidance import Sampling
from .schedule import PartialSamples, Sampler, row_generators


def denoise_each(
    noise: Float[Tensor, "batch ..."], sampler: Sampler, sampling: Sampling, ends: Sequence[int]
) -> PartialSamples:
    """Samples that take their steps together; each leaves the batch before the call that ``ends`` names."""
    latents = torch.empty_like(noise)
    timesteps = torch.empty(len(ends))
    generators = row_generators(noise)
    last = len(sampler.timesteps) - 1
    current = noise * sampler.initial_scale
    rows = list(range(len(ends)))  # which sample each row of `current` is
    for call in range(max(ends) + 1):
        for place, row in enumerate(rows):
            if ends[row] <= call:
                latents[row] = sampler.to_schedule(current[place], call)
                timesteps[row] = sampler.timesteps[min(call, last)]
        going = [place for place, row in enumerate(rows) if ends[row] > call]
        if not going:
            break
        # (rows, ...) -> (going, ...), of everything that goes on
        current = current[going]
        rows = [rows[place] for place in going]
        sampling.keep(going)
        given = sampler.model_input(current, call)
        output = sampling.output(given, sampler.timesteps[call], sampler.step_of(call))
        current = sampler.step(output, call, current, [generators[row] for row in rows])
    return PartialSamples(latents, timesteps)
