"""Calls of the denoiser in a training step of the second stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from ...models import Conditioning

#: Lowest noise level of images of the concept: below it the image is drawn, and only details are left.
DRAWN = 0.3


@dataclass(frozen=True)
class Calls:
    """Calls of the denoiser in a training step, with the outputs that are wanted.

    Attributes:
        latents, timesteps, cond: given to the denoiser.
        outputs: wanted.
        scales: what squared errors are divided by.
    """

    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    cond: Conditioning
    outputs: Float[Tensor, "n ..."]
    scales: Float[Tensor, " n"]

    @classmethod
    def cat(cls, parts: Sequence[Calls]) -> Self:
        """All calls as one batch."""
        return cls(
            torch.cat([part.latents for part in parts]),
            torch.cat([part.timesteps for part in parts]),
            Conditioning.cat([part.cond for part in parts]),
            torch.cat([part.outputs for part in parts]),
            torch.cat([part.scales for part in parts]),
        )
