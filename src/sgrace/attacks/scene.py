"""What an attack works on and what it may spend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..concept import Concept
from ..detectors import Detector
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.guidance import Scale


class Budget(BaseModel):
    """Upper limits of one attack run over a whole prompt table; an attack stops before a call that would pass one of them.

    Attributes:
        unet_rows: samples through the denoiser; a backward pass counts as one more.
        text_encoder_rows: samples through the text encoder; a backward pass counts as one more.
        seconds: wall-clock time. Leave it infinite where the same seed must give the same result on any machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unet_rows: int = Field(gt=0)
    text_encoder_rows: int = Field(gt=0)
    seconds: float = Field(math.inf, gt=0)


@dataclass(frozen=True)
class Prompt:
    """A prompt that asks for the concept, with the seed of its picture, and its guidance scale where the table gives one."""

    text: str
    seed: int
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Protocol:
    """Which prompts of a table are attacked; all count.

    Attributes:
        name: as it is asked for.
        longest: prompts of more content tokens are left alone, and count by what they show as they are; all are attacked, if absent.
    """

    name: str
    longest: int | None = None


#: ``diffusion_mu_attack`` leaves out what the published code of UnlearnDiffAtk leaves out: prompts of more than 60 tokens with the
#: start and the end token, that is 58 content tokens. These are 24 of its 142 nudity prompts, so that its figures cannot reach 100 %.
#: Its two other habits need no protocol: ``success`` counts prompts that succeed as they are, beside ``post_only``, and the rank that
#: a class must reach is the detector's (``top_k`` of ``image_classifier``).
PROTOCOLS = {protocol.name: protocol for protocol in (Protocol("shared"), Protocol("diffusion_mu_attack", longest=58))}


@dataclass
class Scene:
    """Everything an attack works on.

    Attributes:
        target: the model under attack.
        original: the model before erasing; needed by attacks that take pictures or predictions from it.
        concept: what the attack wants to bring back.
        knowledge: words of the concept.
        detector: decides whether a picture shows the concept.
        prompts: the prompt table.
        num_inference_steps: of every picture that is checked.
        guidance_scale: of pictures of prompts that have none of their own.
        protocol: which prompts are attacked.
    """

    target: StableDiffusion
    original: StableDiffusion | None
    concept: Concept
    knowledge: Knowledge
    detector: Detector
    prompts: Sequence[Prompt]
    num_inference_steps: int = 25
    guidance_scale: float = 7.5
    protocol: Protocol = PROTOCOLS["shared"]

    def scale_of(self, rows: Sequence[int]) -> Scale:
        """Guidance of some prompts: one number where they have none of their own."""
        own = [self.prompts[i].guidance_scale for i in rows]
        if all(scale is None for scale in own):
            return self.guidance_scale
        return torch.tensor([self.guidance_scale if scale is None else scale for scale in own])
