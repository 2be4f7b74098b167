"""RACE (Kim et al., arXiv 2405.16341): ESD, trained on under text states that are attacked at one timestep."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ..models import StableDiffusion
from ._shared.partial_samples import Samples
from .esd import ESD, ESDConfig


class RACEConfig(ESDConfig):
    """Settings of ESD, and of the attack.

    Attributes:
        plain_iterations: the first so many of ``iterations`` are plain ESD; the paper starts from a finished ESD.
        radius: reach of the attack in each coordinate of the text states.
        attack_steps: sign-gradient steps of a quarter of the radius.
    """

    plain_iterations: int = Field(1000, ge=0, le=1_000_000)
    radius: float = Field(0.1, ge=0)
    attack_steps: int = Field(10, ge=0, le=1000)


_PAPER: dict[str, Any] = {"form": "A", "strength": 1.0, "sample_from": "edited", "iterations": 2000, "lr": 1e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-style": {**_PAPER, "group": "x"},
    "paper-sd14-nudity": {**_PAPER, "group": "u"},
    "paper-sd14-object": {**_PAPER, "group": "u"},
    "emoji": {
        "group": "u", "iterations": 150, "plain_iterations": 75, "attack_steps": 2, "radius": 0.3, "batch": 8, "pool": 96, "lr": 5e-4,
        "num_inference_steps": 15,
    },
}  # fmt: skip


class RACE(ESD):
    """The attack moves all text states within a box so that the student predicts the noise from which the sample came."""

    name = "race"
    paper = "arXiv 2405.16341"
    licence = "MIT"
    config_type = RACEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"
    config: RACEConfig

    def condition(self, student: StableDiffusion, samples: Samples, step: int, generator: torch.Generator) -> Tensor:
        """Attacked states after the plain iterations."""
        config, states = self.config, samples.states
        if step < config.plain_iterations or config.attack_steps == 0:
            return states
        low, high = states.amin((1, 2), keepdim=True), states.amax((1, 2), keepdim=True)
        current = states + (torch.rand(states.shape, generator=generator) * 2 - 1) * config.radius
        for _ in range(config.attack_steps):
            current.requires_grad_(True)
            noise = student.noise_of(student.predict(samples.latents, samples.timesteps, current), samples.latents, samples.timesteps)
            (gradient,) = torch.autograd.grad((noise - samples.noise).square().sum(), current)
            with torch.no_grad():
                current = current - config.radius / 4 * gradient.sign()
                current = torch.clamp(torch.clamp(current, states - config.radius, states + config.radius), low, high)
        return current.detach()
