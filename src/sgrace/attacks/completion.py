"""Completion: what the denoiser makes of half-destroyed images of the concept, without any text."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field

from .._util.device import batches
from .base import Attack
from .session import Session


class CompletionConfig(BaseModel):
    """Settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Part of the sampling steps that the noised image takes; at 1 nothing of it is left.",
    )
    tries: int = Field(24, ge=1, le=10_000, description="Noises of each prompt, at most.")


class Completion(Attack[CompletionConfig]):
    """Image to image with the empty prompt: images of the concept are noised and denoised again.

    The image-to-image procedure is that of SDEdit. A low strength only copies the image, whatever the model
    knows: compare with a model that never saw the concept.
    """

    name = "completion"
    access = "weights"
    paper = "after arXiv 2108.01073"
    by_text = False
    needs_control = True
    config_type = CompletionConfig
    presets: ClassVar = {"quick": {"tries": 2}, "standard": {"tries": 8}}

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One image of each open prompt a round."""
        model = session.target
        clean = session.concept_latents(self.name)
        steps = session.scene.num_inference_steps
        # at least one step is taken, however low the strength
        start = steps - max(1, round(self.config.strength * steps))
        level = model.schedule.step_timestep(steps, start)
        for _ in range(self.config.tries):
            indices = session.open
            if not indices:
                return
            cond = session.uncond.expand(len(indices))
            session.charge_sampling(model, cond, steps, 1, start)
            # fresh noise a round: a try differs from the last one in nothing else
            noise = model.noise(len(indices), session.generator)
            # the level of the step that comes next, one value for all: (n,)
            timesteps = torch.full((len(indices),), level, device=model.device)
            noisy = model.schedule.add_noise(clean[indices], noise, timesteps)
            images = []
            for part in batches(len(indices), model.batch_size):
                done = model.denoise(
                    noisy[part],
                    cond[part],
                    session.uncond,
                    num_inference_steps=steps,
                    guidance_scale=1,
                    start=start,
                )
                images.append(model.decode(done.latents).cpu())
            session.judge(indices, torch.cat(images), {"noisy_latents": noisy})
