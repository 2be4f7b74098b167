"""A text-free probe: what the denoiser makes of half-destroyed pictures of the concept when no word asks for it."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from .base import Attack
from .session import Session


class NoiseProbeConfig(BaseModel):
    """Settings.

    Attributes:
        strength: part of the sampling steps that the noised picture goes through; at 1 nothing of the picture is left.
        tries: noises per prompt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(0.7, gt=0, le=1)
    tries: int = Field(24, ge=1, le=10_000)


class NoiseProbe(Attack[NoiseProbeConfig]):
    """Pictures of the concept are noised to a part of the schedule and denoised with the empty prompt.

    A low strength only copies the picture, whatever the model knows: read it beside a model that never saw the concept.
    """

    name, access, paper, by_text = "noise_probe", "weights", "after arXiv 2505.17013", False
    config_type = NoiseProbeConfig
    presets: ClassVar = {"quick": {"tries": 2}, "standard": {"tries": 8}}

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One picture of each open prompt a round."""
        scene, model = session.scene, session.target
        clean = session.concept_latents(self.name)
        steps = scene.num_inference_steps
        start = steps - max(1, round(self.config.strength * steps))
        for _ in range(self.config.tries):
            if not (rows := session.open):
                return
            fresh = torch.randn((len(rows), *clean.shape[1:]), generator=session.generator)
            states = session.empty.expand(len(rows), -1, -1)
            session.charge_sampling(model, states, steps - start, guidance_scale=1)
            noisy = model.noised(clean[rows], fresh, torch.full((len(rows),), model.timestep(steps, start)))
            latents, _ = model.roll(noisy, states, session.empty, steps, steps, guidance_scale=1, start=start)
            session.judge(rows, model.decode(latents), {"noisy_latents": noisy})
