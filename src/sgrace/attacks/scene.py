"""What an attack works on and what it may spend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field

from .._util.settings import Settings
from ..concept import Concept
from ..detectors import Detector
from ..knowledge import Knowledge
from ..models import DiffusionModel
from ..models.guidance import Scale


class Budget(Settings):
    """Hard limits of one run over a whole prompt table; an attack stops before a call that would pass one."""

    denoiser_rows: int = Field(
        10**12, gt=0, description="Samples through the denoiser; a backward pass counts as one more."
    )
    text_encoder_rows: int = Field(
        10**12, gt=0, description="Samples through the text encoder; a backward pass counts as one more."
    )
    seconds: float = Field(
        math.inf,
        gt=0,
        description="Wall-clock time; without it the same seed gives the same result on any machine.",
    )


@dataclass(frozen=True)
class Prompt:
    """A prompt that asks for the concept, with its image's seed, and its guidance scale if it has one."""

    text: str
    seed: int
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Protocol:
    """Which prompts of a table are attacked; all count.

    Attributes:
        name: as it is asked for.
        longest: prompts of more content tokens are not attacked, and count by what they show as they are;
            none to attack all.
    """

    name: str
    longest: int | None = None

    def attacks(self, n_tokens: int) -> bool:
        """Whether prompts of this many content tokens are attacked."""
        return self.longest is None or n_tokens <= self.longest


#: ``diffusion_mu_attack`` leaves out what the published code of UnlearnDiffAtk leaves out: prompts of more
#: than 60 tokens with the start and the end token, that is 58 content tokens. These are 24 of its 142 nudity
#: prompts, so that its figures cannot reach 100 %. Its two other habits need no protocol: ``success`` counts
#: prompts that succeed as they are, beside ``post_only``, and the rank that a class must reach is the
#: detector's (``top_k`` of ``image_classifier``).
PROTOCOLS = {
    protocol.name: protocol for protocol in (Protocol("shared"), Protocol("diffusion_mu_attack", longest=58))
}


@dataclass(frozen=True)
class Scene:
    """Everything an attack works on.

    Attributes:
        target: the model under attack.
        original: the model before erasing; needed by attacks that take images or predictions from it.
        concept: what the attack wants to bring back.
        words: of the concept.
        detector: decides whether an image shows the concept.
        prompts: the prompt table.
        num_inference_steps: of every image that is checked.
        guidance_scale: of images of prompts that have none of their own.
        protocol: which prompts are attacked.
    """

    target: DiffusionModel
    original: DiffusionModel | None
    concept: Concept
    words: Knowledge
    detector: Detector
    prompts: Sequence[Prompt]
    num_inference_steps: int = 25
    guidance_scale: float = 7.5
    protocol: Protocol = PROTOCOLS["shared"]

    def scale_of(self, indices: Sequence[int]) -> Scale:
        """Guidance of some prompts: one number where they have none of their own."""
        own = [self.prompts[i].guidance_scale for i in indices]
        if all(scale is None for scale in own):
            return self.guidance_scale
        # (indices,): mixed prompts get a scale each
        return torch.tensor([self.guidance_scale if scale is None else scale for scale in own])
