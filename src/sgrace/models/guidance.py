"""How a model is steered while it samples: classifier-free guidance, or what a method puts in its place.

Guidance is a function of ``predict``; it knows no model class.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel
from torch import Tensor

from .._util.tensors import save_tensors
from .conditioning import Conditioning, Tokens
from .text_stack import TextStack

Config = TypeVar("Config", bound=BaseModel)

#: One guidance scale for all samples, or one for each.
Scale = float | Float[Tensor, " batch"]
Predict = Callable[[Tensor, Tensor, Conditioning], Tensor]


class Steerable(Protocol):
    """What guidance may ask of a model."""

    @property
    def text(self) -> TextStack:
        """The text encoders."""

    def predict(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's output."""

    def encode_tokens(self, tokens: Tokens, embeddings: Tensor | None = None) -> Conditioning:
        """Conditioning from token rows of the main encoder."""


class SamplingCost(NamedTuple):
    """Samples through the networks: through the denoiser at each step, through the text encoder in all."""

    denoiser_rows: int
    text_encoder_rows: int


def is_off(guidance_scale: Scale) -> bool:
    """Whether no sample is guided; scales of their own always guide."""
    # looking into a tensor would wait for the device
    return not isinstance(guidance_scale, Tensor) and guidance_scale == 1


@dataclass(eq=False)
class Sampling:
    """Classifier-free guidance of one batch through the steps of sampling.

    It may remember something from step to step.

    Args:
        predict: the denoiser.
        cond: the prompts.
        uncond: the negative prompt, or one for each sample.
        guidance_scale: one for all or one for each sample; a single 1 switches guidance off and halves the
            cost.
        num_inference_steps: length of the whole schedule.
    """

    predict: Predict
    cond: Conditioning
    uncond: Conditioning
    guidance_scale: Scale
    num_inference_steps: int

    def __post_init__(self) -> None:
        # one negative prompt serves the whole batch
        self.uncond = self.uncond.expand(len(self.cond))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the samples only."""
        self.cond = self.cond[rows]
        self.uncond = self.uncond[rows]
        if isinstance(self.guidance_scale, Tensor):
            self.guidance_scale = self.guidance_scale[rows]

    def scale_for(self, latents: Tensor) -> float | Tensor:
        """The guidance scale as a factor of latents of any rank."""
        if not isinstance(self.guidance_scale, Tensor):
            return self.guidance_scale
        # (batch,) -> (batch, 1, ...), to multiply latents
        return self.guidance_scale.to(latents).view(-1, *[1] * (latents.ndim - 1))

    def output(self, latents: Tensor, timestep: Tensor, step: int) -> Tensor:
        """What the sampler is given at a step, counted from 0 over the whole schedule."""
        del step
        return self.guided(latents, timestep, self.cond)

    def guided(self, latents: Tensor, timestep: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's output with classifier-free guidance, both halves in one call."""
        if is_off(self.guidance_scale):
            return self.predict(latents, timestep, cond)
        # (batch, ...) -> (2 batch, ...): negative half first
        both = torch.cat([latents, latents])
        negative, positive = self.predict(both, timestep, Conditioning.cat([self.uncond, cond])).chunk(2)
        # a scale of 1 gives the prompt's own output, a larger one goes beyond it
        return negative + self.scale_for(latents) * (positive - negative)


class Guidance(ABC, Generic[Config]):
    """What a method does while a model samples, in the place of a change of its weights.

    Only sampling is steered: ``predict`` and ``encode`` stay raw, so a gradient attack meets the guidance
    when its images are sampled.

    Args:
        config: settings.
        tensors: all else that decides what it does; the last dimension is the prompt embeddings' width.

    Attributes:
        name: of the eraser whose guidance it is.
        config_type: the frozen pydantic model of the settings.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[BaseModel]]

    def __init__(self, config: Config, tensors: Mapping[str, Tensor]) -> None:
        self.config = config
        self.tensors = tensors

    @property
    @abstractmethod
    def tensor_names(self) -> frozenset[str]:
        """Tensors that it needs with these settings; each is a matrix whose rows are prompt embeddings."""

    @abstractmethod
    def sampling(self, model: Steerable, plain: Sampling) -> Sampling:
        """What steers one batch, in the place of ``plain``: classifier-free guidance of the same prompts."""

    def cost(self, model: Steerable, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """What sampling these prompts takes; as classifier-free guidance, unless a method says otherwise."""
        del model
        # guidance reads the empty prompt beside each prompt
        return SamplingCost(len(cond) * (1 if is_off(guidance_scale) else 2), 0)

    @property
    def settings(self) -> dict[str, str]:
        """Name and settings, as the header of a file of tensors."""
        return {"guidance": self.name, "settings": json.dumps(self.config.model_dump(), sort_keys=True)}

    def save(self, file: Path) -> None:
        """Write everything into one file of tensors."""
        # safetensors writes bytes in memory order
        tensors = {name: value.contiguous() for name, value in self.tensors.items()}
        save_tensors(file, tensors, self.settings)
