"""RACE (Kim et al., arXiv 2405.16341): ESD against prompt embeddings that are attacked at one timestep."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from ..models import Conditioning
from ._shared.adversarial_samples import observe
from ._shared.embedding_attack import within_range
from ._shared.partial_samples import Samples
from ._shared.settings import Iterations
from ._shared.student import Student
from .base import Need
from .esd import ESD, ESDConfig


class RACEConfig(ESDConfig):
    """Settings of ESD, and of the attack."""

    plain_iterations: Iterations = Field(
        1000,
        description="Number of first iterations that are plain ESD, without attack; the paper starts from a "
        "finished ESD.",
    )
    radius: float = Field(
        0.1, ge=0, description="Reach of the attack in each coordinate of the prompt embeddings."
    )
    attack_steps: int = Field(
        10, ge=0, le=1000, description="Sign-gradient steps of a quarter of the radius."
    )


_PAPER_PRESET: dict[str, Any] = {
    "form": "A", "negative_guidance": 1.0, "sample_from": "edited", "iterations": 2000, "lr": 1e-5,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-style": {**_PAPER_PRESET, "site": "x"},
    "paper-sd14-nudity": {**_PAPER_PRESET, "site": "u"},
    "paper-sd14-object": {**_PAPER_PRESET, "site": "u"},
    "emoji": {
        "site": "u", "iterations": 150, "plain_iterations": 75, "attack_steps": 2, "radius": 0.3, "batch": 8,
        "pool": 96, "lr": 5e-4, "num_inference_steps": 15,
    },
}  # fmt: skip


class RACE(ESD):
    """ESD under attack: ``min_W max_d |eps_W(x, c + d) - target|^2``.

    Sign gradients within a box find ``d``.

    The attack moves the prompt embeddings so that the student predicts the noise from which the sample came.

    Cost: as ESD, and ``attack_steps`` more calls of the denoiser for each iteration after the plain ones.
    """

    name = "race"
    paper = "arXiv 2405.16341"
    licence = "MIT"
    needs = frozenset({Need.GRADIENTS})
    config_type = RACEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"
    config: RACEConfig

    def condition(
        self, student: Student, samples: Samples, step: int, generator: torch.Generator
    ) -> Conditioning:
        """Attacked prompt embeddings after the plain iterations."""
        config = self.config
        if step < config.plain_iterations or config.attack_steps == 0:
            return samples.cond
        model = student.model
        own = samples.cond.prompt_embeds
        # a random start within the box, uniform in each coordinate
        start = torch.rand(own.shape, generator=generator).to(own)
        current = own + (start * 2 - 1) * config.radius
        for _ in range(config.attack_steps):
            current.requires_grad_(True)
            output = model.predict(samples.latents, samples.timesteps, samples.cond.with_embeds(current))
            # the paper compares noise, also where the model predicts velocity
            noise = model.schedule.to_noise(output, samples.latents, samples.timesteps)
            # the sum, not the mean: a sign step does not see the factor, and no sample weighs on another
            (gradient,) = torch.autograd.grad((noise - samples.noise).square().sum(), current)
            with torch.no_grad():
                # four steps cross half of the box
                current = current - config.radius / 4 * gradient.sign()
                # the box around the prompt, then the range of its own values
                current = torch.clamp(current, own - config.radius, own + config.radius)
                current = within_range(current, own)
        observe("prompt_embeds", current)
        return samples.cond.with_embeds(current.detach())
