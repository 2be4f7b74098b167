"""Which words explain an image: as in Diffusion Classifier (arXiv 2303.16203), those of the least error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ...models import Conditioning
from .._shared.generated_data import denoising_errors, encoded, noise_for
from ..base import Job

#: Noise level at which an image is asked which words explain it: it still shows what it is of.
ASKED_AT = 0.45


@torch.no_grad()
def unlikeness(
    job: Job, images: Float[Tensor, "n ..."], own: Conditioning, others: Sequence[Sequence[str]]
) -> Float[Tensor, " n"]:
    """How many times larger the denoising error of each image is with another prompt than with its own.

    Near 1 where the other prompt explains the image as well. Of several other prompts the best counts.

    Args:
        job: the original model and the sources of random choices.
        images: clean latents.
        own: conditioning of the prompts that drew them.
        others: of each image, its other prompts; as many for all, or fewer.
    """
    model = job.model
    noise = noise_for(model, images, job.generator).noise
    # the same level for all: errors are compared
    timesteps = torch.full((len(images),), model.schedule.timestep_at(ASKED_AT), device=model.device)
    noisy = model.schedule.add_noise(images, noise, timesteps)
    wanted = model.schedule.from_clean(images, noisy, timesteps)
    of_own = denoising_errors(model, noisy, timesteps, own, wanted)
    of_others = torch.full_like(of_own, math.inf)
    for rank in range(max(map(len, others))):
        at = [i for i, prompts in enumerate(others) if len(prompts) > rank]
        cond = encoded(model, [others[i][rank] for i in at])
        found = denoising_errors(model, noisy[at], timesteps[at], cond, wanted[at])
        of_others[at] = torch.minimum(of_others[at], found)
    return of_others / of_own
