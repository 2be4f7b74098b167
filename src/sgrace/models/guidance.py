"""How a model is steered while it samples: classifier-free guidance, and guidance that a method puts in its place."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from .families.stable_diffusion import StableDiffusion

Config = TypeVar("Config", bound=BaseModel)


Scale = float | Float[Tensor, " batch"]


def is_off(guidance_scale: Scale) -> bool:
    """Whether no row is guided; scales of their own always guide."""
    return not isinstance(guidance_scale, Tensor) and guidance_scale == 1


class Sampling:
    """Classifier-free guidance of one batch through one roll, and what is remembered there from step to step.

    Args:
        model: whose denoiser is asked; its calls are counted.
        states: text states of the prompts ``(batch, length, width)``.
        empty: text states of the negative prompt, or of one for each row.
        guidance_scale: one for all or one for each row; a single 1 switches guidance off and halves the cost.
        num_inference_steps: length of the whole schedule.
    """

    def __init__(self, model: StableDiffusion, states: Tensor, empty: Tensor, guidance_scale: Scale, num_inference_steps: int) -> None:
        self.model, self.guidance_scale, self.num_inference_steps = model, guidance_scale, num_inference_steps
        self.states, self.empty = states, empty.expand_as(states)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        self.states, self.empty = self.states[rows], self.empty[rows]
        if isinstance(self.guidance_scale, Tensor):
            self.guidance_scale = self.guidance_scale[rows]

    @property
    def scale(self) -> float | Tensor:
        """The guidance scale as a factor of a batch of latents."""
        return self.guidance_scale.view(-1, 1, 1, 1) if isinstance(self.guidance_scale, Tensor) else self.guidance_scale

    def output(self, latents: Tensor, timestep: int | Tensor, step: int) -> Tensor:
        """What the scheduler is given at a step, counted from 0 over the whole schedule."""
        del step
        return self.guided(latents, timestep, self.states)

    def guided(self, latents: Tensor, timestep: int | Tensor, states: Tensor) -> Tensor:
        """The denoiser's output with classifier-free guidance, both halves in one call."""
        if is_off(self.guidance_scale):
            return self.model.predict(latents, timestep, states)
        negative, positive = self.model.predict(latents.repeat(2, 1, 1, 1), timestep, torch.cat([self.empty, states])).chunk(2)
        return negative + self.scale * (positive - negative)


class Guidance(ABC, Generic[Config]):
    """What a method does while a model samples, in the place of a change of its weights.

    Only sampling is steered: ``predict`` and ``encode`` stay raw, so an attack by gradients meets the guidance when its pictures are drawn.

    Args:
        config: settings.
        tensors: all else that decides what it does; the last dimension is the text states'.

    Attributes:
        name: plug-in name.
        config_type: the frozen pydantic model of the settings.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[BaseModel]]

    def __init__(self, config: Config, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.tensors = config, tensors

    @abstractmethod
    def sampling(self, model: StableDiffusion, states: Tensor, empty: Tensor, guidance_scale: Scale, num_inference_steps: int) -> Sampling:
        """What steers one batch through one roll; see :class:`Sampling`."""

    def note(self, model: StableDiffusion, ids: Tensor, embeddings: Tensor | None, states: Tensor) -> None:
        """The model's text encoder has read token ids, or embeddings in their place."""

    def unet_rows(self, guidance_scale: Scale) -> int:
        """Denoiser rows of one sample at one step."""
        return 1 if is_off(guidance_scale) else 2

    def text_rows(self, states: Tensor) -> int:
        """Text encoder rows of a roll of these text states."""
        del states
        return 0

    @property
    def settings(self) -> dict[str, str]:
        """Name and settings, as the header of a file of tensors."""
        return {"guidance": self.name, "settings": json.dumps(self.config.model_dump(), sort_keys=True)}

    def save(self, file: Path) -> None:
        """Write everything into one file of tensors."""
        save_file({name: value.contiguous() for name, value in self.tensors.items()}, file, metadata=self.settings)
