"""SLD, Safe Latent Diffusion (Schramowski et al., arXiv 2211.05105).

Each step of sampling is pushed away from the concept's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..models import Conditioning
from ..models.guidance import Guidance, Sampling, SamplingCost, Scale, Steerable
from ._shared.prompts import joined_phrases
from .base import Change, Eraser, Job, Need

#: Length of the schedule for which ``warm_up`` is stated.
SCHEDULE = 50


class SLDConfig(Settings):
    """Settings; defaults are the paper's medium strength."""

    text: str = Field(
        "",
        description="Text that sampling is steered away from. If empty: the concepts' names and as many of "
        "their related words as the text encoder can read.",
    )
    warm_up: int = Field(
        10,
        ge=0,
        le=SCHEDULE,
        description="Steps of a schedule of 50 before the safety term is applied; scaled to others.",
    )
    scale: float = Field(
        1000.0,
        ge=0,
        description="Scale s of the safety term, weighted by min(1, s |difference|); 0 switches it off.",
    )
    threshold: float = Field(
        0.01,
        ge=0,
        le=100,
        description="A value is steered where its difference, prompt minus safety text, is below this.",
    )
    momentum_scale: float = Field(0.3, ge=0, le=1, description="Weight of the momentum.")
    momentum: float = Field(0.4, ge=0, lt=1, description="Share of the momentum that a step keeps.")


PRESETS: dict[str, dict[str, Any]] = {
    "weak": {"warm_up": 15, "scale": 20.0, "threshold": 0.0, "momentum_scale": 0.0, "momentum": 0.0},
    "medium": {},
    "strong": {"warm_up": 7, "scale": 2000.0, "threshold": 0.025, "momentum_scale": 0.5, "momentum": 0.7},
    "max": {"warm_up": 0, "scale": 5000.0, "threshold": 1.0, "momentum_scale": 0.5, "momentum": 0.7},
    "emoji": {"warm_up": 0, "scale": 30.0, "threshold": 1.0},
}


@dataclass(kw_only=True, eq=False)
class SLDSampling(Sampling):
    """``e('') + s (e(prompt) - e('') - g)``, with the safety term ``g`` and its momentum.

    :func:`safety_term` gives ``g``.

    The outputs ``e`` are the model's own, noise as in the paper or velocity: the mixture is exact for both,
    and only the scale and the threshold then mean differences of velocity.

    Args:
        config: settings.
        safety: conditioning of the safety text.
        velocity: the momentum that earlier steps left.
    """

    config: SLDConfig
    safety: Conditioning
    velocity: Tensor | None = None

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the samples only."""
        super().keep(rows)
        if self.velocity is not None:
            self.velocity = self.velocity[rows]

    def output(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """See :meth:`Sampling.output`; one denoiser call for all three texts."""
        config = self.config
        # (3 batch, ...): empty prompt, prompt, safety text
        texts = Conditioning.cat([self.uncond, self.cond, self.safety.expand(len(self.cond))])
        outputs = self.predict(torch.cat([latents] * 3), timestep, texts)
        uncond, prompt, safety = outputs.chunk(3)
        # the momentum starts at zero with each batch
        velocity = torch.zeros_like(uncond) if self.velocity is None else self.velocity
        term = (
            safety_term(uncond, prompt, safety, config.scale, config.threshold)
            + config.momentum_scale * velocity
        )
        # it builds up during the warm-up, too, as published; only the term is held back
        self.velocity = config.momentum * velocity + (1 - config.momentum) * term
        # the paper counts steps of a schedule of 50: the same share of any other
        applied = step >= round(config.warm_up * self.num_inference_steps / SCHEDULE)
        # classifier-free guidance whose direction lacks the safety term
        return uncond + self.scale_for(latents) * (prompt - uncond - (term if applied else 0.0))


class SLDGuidance(Guidance[SLDConfig]):
    """Holds the prompt embeddings of the safety text, ``safety`` ``(length, width)``."""

    name = "sld"
    config_type = SLDConfig

    @property
    def tensor_names(self) -> frozenset[str]:
        """See :attr:`Guidance.tensor_names`."""
        return frozenset({"safety"})

    def cost(self, model: Steerable, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """Three samples through the denoiser for each image, whatever the guidance scale is."""
        del model, guidance_scale
        return SamplingCost(3 * len(cond), 0)

    def sampling(self, model: Steerable, plain: Sampling) -> Sampling:
        """See :meth:`Guidance.sampling`."""
        del model
        embeds = self.tensors["safety"].to(plain.cond.prompt_embeds)
        # one row: (length, width) -> (1, length, width)
        safety = plain.uncond[[0]].with_embeds(embeds[None])
        return SLDSampling(**vars(plain), config=self.config, safety=safety)


def safety_term(uncond: Tensor, prompt: Tensor, safety: Tensor, scale: float, threshold: float) -> Tensor:
    """``m (safety - uncond)``, where ``prompt - safety < threshold``, and 0 elsewhere.

    ``m`` is ``min(scale |prompt - safety|, 1)``.
    """
    # (batch, channels, height, width), as all that follows
    difference = prompt - safety
    # element by element: each value of the latent has a strength of its own
    strength = torch.where(
        difference < threshold, (scale * difference).abs().clamp(max=1), torch.zeros_like(difference)
    )
    return strength * (safety - uncond)


class SLD(Eraser[SLDConfig]):
    """Guidance away from one text that names all concepts; nothing is trained.

    Cost: one call of the text encoder; afterwards three samples through the denoiser for every step and
    image, in the place of two with classifier-free guidance or one without.
    """

    name = "sld"
    paper = "arXiv 2211.05105"
    licence = "MIT"
    needs = frozenset({Need.SAMPLING})
    changes = "guidance"
    guidance_type = SLDGuidance
    config_type = SLDConfig
    presets = PRESETS
    default_preset = "medium"

    @torch.no_grad()
    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: the concepts' names are more than the text encoder can read.
        """
        text = self.config.text or joined_phrases(job.model, job.targets)
        safety = job.model.encode([text]).prompt_embeds[0]
        return Change(guidance=SLDGuidance(self.config, {"safety": safety}), details={"text": text})
