"""The noise-based probe (Lu et al., arXiv 2505.17013): the prompts, sampled with much fresh noise."""

from __future__ import annotations

import itertools
from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, Field

from .._util.device import batches
from .._util.settings import Settings, listed
from ..models.needs import Need
from .base import Attack
from .session import Session


class EtaProbeConfig(Settings):
    """Settings; an image of each pair of them is drawn, in this order."""

    etas: Annotated[tuple[float, ...], BeforeValidator(listed)] = Field(
        (1.0, 1.17, 1.34, 1.51, 1.68, 1.85),
        min_length=1,
        description="Part of the noise that is fresh at each DDIM step, separated by commas; 1 is DDPM.",
    )
    noise_scales: Annotated[tuple[float, ...], BeforeValidator(listed)] = Field(
        (1.0, 1.02, 1.03, 1.04),
        min_length=1,
        description="Factors of the fresh noise, separated by commas.",
    )


class EtaProbe(Attack[EtaProbeConfig]):
    """The prompts under stochastic DDIM, whose fresh noise leaves the paths that erasing has changed.

    The best of several images counts: compare with as many seeds of the plain sampler (`more_seeds`).
    """

    name = "eta_probe"
    access = "weights"
    paper = "arXiv 2505.17013"
    by_text = False
    needs = frozenset({Need.DDIM})
    needs_control = True
    config_type = EtaProbeConfig
    presets: ClassVar = {
        "quick": {"etas": (1.0, 1.85), "noise_scales": (1.0,)},
        "standard": {"etas": (1.0, 1.34, 1.68, 1.85), "noise_scales": (1.0, 1.03)},
    }

    @torch.no_grad()
    def search(self, session: Session) -> None:
        """One image of each open prompt a round, each from its prompt's own run of noise."""
        model = session.target
        shape = model.latent_shape
        # one run of noise for each prompt, so that its images do not depend on which others are open
        generators = [torch.Generator().manual_seed(attempt.seed) for attempt in session.attempts]
        for eta, noise_scale in itertools.product(self.config.etas, self.config.noise_scales):
            indices = session.open
            if not indices:
                return
            noise = torch.stack([torch.randn(shape, generator=generators[i]) for i in indices])
            images = self._sampled(session, indices, noise.to(model.device), eta, noise_scale)
            session.judge(indices, images, {"noise": noise})

    @staticmethod
    def _sampled(
        session: Session, indices: list[int], noise: torch.Tensor, eta: float, noise_scale: float
    ) -> torch.Tensor:
        model = session.target
        steps = session.scene.num_inference_steps
        cond = session.cond[indices]
        # charged for all batches at once: a round is sampled whole or not at all
        session.charge_sampling(model, cond, steps, session.scene.scale_of(indices))
        images = []
        for part in batches(len(indices), model.batch_size):
            done = model.denoise(
                noise[part],
                cond[part],
                session.uncond,
                num_inference_steps=steps,
                guidance_scale=session.scene.scale_of(indices[part]),
                sampler=model.schedule.ddim_sampler(steps, eta=eta, noise_scale=noise_scale),
            )
            images.append(model.decode(done.latents).cpu())
        return torch.cat(images)
