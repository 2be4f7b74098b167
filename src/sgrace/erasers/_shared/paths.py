"""Sampling paths of the original model: every call of the denoiser is kept as something to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...models import Conditioning, DiffusionModel
from ...models.guidance import is_off
from ...models.schedule import row_generators


@dataclass(frozen=True)
class Paths:
    """The calls of the denoiser along sampling paths.

    A path gives a call for its prompt and, with guidance, one for the empty prompt at each step, so nothing
    that the sampling cost is lost.

    Attributes:
        latents, timesteps: given to the denoiser.
        prompts: number of the prompt whose path it is.
        empty: whether the call is the one for the empty prompt.
        outputs: of the denoiser.
        images: clean latents at the paths' ends, one for each prompt.
    """

    latents: Float[Tensor, "calls ..."]
    timesteps: Float[Tensor, " calls"]
    prompts: Int[Tensor, " calls"]
    empty: Bool[Tensor, " calls"]
    outputs: Float[Tensor, "calls ..."]
    images: Float[Tensor, "n ..."]

    def __len__(self) -> int:
        return len(self.timesteps)

    def __getitem__(self, rows: Int[Tensor, " n"]) -> Paths:
        """Some of the calls."""
        return Paths(
            self.latents[rows],
            self.timesteps[rows],
            self.prompts[rows],
            self.empty[rows],
            self.outputs[rows],
            self.images,
        )

    def of(self, kept: Bool[Tensor, " n"]) -> Paths:
        """The paths of some of the prompts, which are numbered anew."""
        found = self[kept[self.prompts].nonzero().flatten()]
        # the number of a kept prompt is how many kept ones stand before it
        return replace(found, prompts=kept.cumsum(0)[found.prompts] - 1, images=self.images[kept])


@torch.no_grad()
def sampling_paths(
    model: DiffusionModel,
    cond: Conditioning,
    uncond: Conditioning,
    generator: torch.Generator,
    *,
    num_inference_steps: int,
    guidance_scale: float,
) -> Paths:
    """Sample every prompt once and keep each call.

    Costs ``2 * num_inference_steps`` denoiser rows a prompt, and half of them without guidance.
    """
    n = len(cond)
    noise = model.noise(n, generator)
    guided = not is_off(guidance_scale)
    calls: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    images = []
    for at in range(0, n, model.batch_size):
        rows = slice(at, min(at + model.batch_size, n))
        size = rows.stop - at
        prompts = cond[rows]
        numbers = torch.arange(at, rows.stop, device=model.device)
        is_empty = torch.zeros_like(numbers, dtype=torch.bool)
        if guided:
            # one call for both prompts of a step: (2 * size, ...)
            prompts = Conditioning.cat([prompts, uncond.expand(size)])
            numbers = numbers.repeat(2)
            is_empty = torch.cat([is_empty, ~is_empty])
        sampler = model.schedule.sampler(num_inference_steps)
        latents = noise[rows] * sampler.initial_scale
        generators = row_generators(noise[rows])
        for call, timestep in enumerate(sampler.timesteps):
            given = sampler.model_input(latents, call).repeat(len(prompts) // size, *[1] * (latents.ndim - 1))
            timesteps = timestep.expand(len(prompts)).to(given)
            outputs = model.predict(given, timesteps, prompts)
            calls.append((given, timesteps, numbers, is_empty, outputs))
            if guided:
                prompted, empty = outputs.chunk(2)
                outputs = empty + guidance_scale * (prompted - empty)
            latents = sampler.step(outputs, call, latents, generators)
        images.append(sampler.to_schedule(latents, len(sampler.timesteps)))
    # one list a field: (calls of all batches, ...)
    fields = [torch.cat(parts) for parts in zip(*calls, strict=True)]
    return Paths(fields[0], fields[1], fields[2], fields[3], fields[4], torch.cat(images))
