"""SLD, Safe Latent Diffusion (Schramowski et al., arXiv 2211.05105): each step of sampling is pushed away from the concept's text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.guidance import Guidance, Sampling, Scale
from ._shared.prompts import joined_phrases
from .base import Eraser, check_concepts, facts

#: Length of the schedule for which ``warm_up`` is stated.
SCHEDULE = 50


class SLDConfig(BaseModel):
    """Settings; defaults are the paper's medium strength.

    Attributes:
        text: what is steered away from; if empty, the concepts' names and as many of their related words as the text encoder can read.
        warm_up: steps before the safety term is applied, of a schedule of 50; of another schedule the same part.
        scale: of the safety term, which each coordinate reaches at most once; 0 switches it off.
        threshold: largest difference, prompt minus safety text, at which a coordinate is pushed.
        momentum_scale: weight of the momentum.
        momentum: part of it that a step keeps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    warm_up: int = Field(10, ge=0, le=SCHEDULE)
    scale: float = Field(1000.0, ge=0)
    threshold: float = Field(0.01, ge=0, le=100)
    momentum_scale: float = Field(0.3, ge=0, le=1)
    momentum: float = Field(0.4, ge=0, lt=1)


PRESETS: dict[str, dict[str, Any]] = {
    "weak": {"warm_up": 15, "scale": 20.0, "threshold": 0.0, "momentum_scale": 0.0, "momentum": 0.0},
    "medium": {},
    "strong": {"warm_up": 7, "scale": 2000.0, "threshold": 0.025, "momentum_scale": 0.5, "momentum": 0.7},
    "max": {"warm_up": 0, "scale": 5000.0, "threshold": 1.0, "momentum_scale": 0.5, "momentum": 0.7},
    "emoji": {"warm_up": 0, "scale": 30.0, "threshold": 1.0},
}


class SLDGuidance(Guidance[SLDConfig]):
    """Holds the text states of the safety text, ``safety`` ``(length, width)``."""

    name = "sld"
    config_type = SLDConfig

    def unet_rows(self, guidance_scale: Scale) -> int:
        """Three, whatever the guidance is."""
        del guidance_scale
        return 3

    def sampling(self, model: StableDiffusion, states: Tensor, empty: Tensor, guidance_scale: Scale, num_inference_steps: int) -> Sampling:
        """See :class:`Sampling`."""
        safety = self.tensors["safety"].to(states)
        return SLDSampling(model, states, empty, guidance_scale, num_inference_steps, config=self.config, safety=safety)


class SLDSampling(Sampling):
    """``e(no prompt) + s (e(prompt) - e(no prompt) - g)``, with the safety term ``g`` of :func:`safety_term` and its momentum.

    The outputs ``e`` are the model's own, noise as in the paper or velocity: the mixture is exact for both, and only the scale and
    the threshold then mean differences of velocity.
    """

    def __init__(self, *roll: Any, config: SLDConfig, safety: Tensor) -> None:  # noqa: ANN401  (as of Sampling)
        super().__init__(*roll)
        self.config, self.safety, self.momentum = config, safety, torch.zeros(())

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        super().keep(rows)
        if self.momentum.ndim:
            self.momentum = self.momentum[rows]

    def output(self, latents: Tensor, timestep: int | Tensor, step: int) -> Tensor:
        """See :meth:`Sampling.output`; one denoiser call for all three texts."""
        config = self.config
        texts = torch.cat([self.empty, self.states, self.safety.expand_as(self.states)])
        nothing, prompt, safety = self.model.predict(latents.repeat(3, 1, 1, 1), timestep, texts).chunk(3)
        term = safety_term(nothing, prompt, safety, config.scale, config.threshold) + config.momentum_scale * self.momentum
        self.momentum = config.momentum * self.momentum + (1 - config.momentum) * term
        applied = step >= round(config.warm_up * self.num_inference_steps / SCHEDULE)
        return nothing + self.scale * (prompt - nothing - (term if applied else 0.0))


class SLD(Eraser[SLDConfig]):
    """Nothing is trained; the text of all concepts together is encoded once.

    Cost: one call of the text encoder; afterwards three denoiser rows for every step and picture in the place of two, or of one.
    """

    name = "sld"
    paper = "arXiv 2211.05105"
    form = "guidance"
    licence = "MIT"
    trains = "nothing"
    access = "sampling"
    guidance_type = SLDGuidance
    config_type = SLDConfig
    presets = PRESETS
    default_preset = "medium"

    @torch.no_grad()
    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there; the concepts' names are more than the text encoder can read.
        """
        check_concepts(concepts, knowledge)
        started, own = time.monotonic(), model.with_text_encoder(model.text_encoder)  # own count of calls
        text = self.config.text or joined_phrases(own, concepts, knowledge)
        safety = own.encode(own.tokenize([text]).ids)[0]
        recipe = facts(self, own, concepts, knowledge, seed, trained=0, started=started, text=text)
        return Erasure(recipe, None, guidance=SLDGuidance(self.config, {"safety": safety}))


def safety_term(nothing: Tensor, prompt: Tensor, safety: Tensor, scale: float, threshold: float) -> Tensor:
    """``m (safety - nothing)``, with ``m = min(scale |prompt - safety|, 1)`` where ``prompt - safety < threshold``, and 0 elsewhere."""
    difference = prompt - safety
    strength = torch.where(difference < threshold, (scale * difference).abs().clamp(max=1), torch.zeros_like(difference))
    return strength * (safety - nothing)
