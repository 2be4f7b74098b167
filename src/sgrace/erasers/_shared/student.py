"""The copy of a model that is trained, its denoiser or its text encoder, beside the original that teaches it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from ...models import StableDiffusion
from ...models.sites import group_names, shared_copy


@dataclass(frozen=True)
class Student:
    """One group of a denoiser's parameters, ready to be trained; everything else is the original's own.

    Attributes:
        teacher: the original, with a count of calls of its own.
        model: the model that is trained; its calls are counted with the teacher's.
        names: of the trained parameters.
        parameters: the trained parameters, in fp32.
    """

    teacher: StableDiffusion
    model: StableDiffusion
    names: list[str]
    parameters: list[Tensor]

    @classmethod
    def of(cls, model: StableDiffusion, group: str) -> Self:
        """A student of a model, which stays untouched.

        Raises:
            InputError: there is no such group of parameters.
        """
        teacher = model.with_text_encoder(model.text_encoder)
        unet = model.pipeline.unet
        names = group_names(unet, group)
        # .float() copies only where the model is of another type
        student = teacher.with_unet(shared_copy(unet, {name: unet.get_parameter(name).detach().clone().float() for name in names}))
        student.calls = teacher.calls
        return cls(teacher, student, names, [student.pipeline.unet.get_parameter(name).requires_grad_(True) for name in names])

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def changed(self) -> dict[str, Tensor]:
        """The trained tensors by name, as they are now."""
        return {name: parameter.detach() for name, parameter in zip(self.names, self.parameters, strict=True)}

    def snapshot(self) -> list[Tensor]:
        """Copies of the trained tensors as they are now."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def restore(self, values: list[Tensor]) -> None:
        """Put the values of a snapshot back."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)


@dataclass(frozen=True)
class TextStudent:
    """A text encoder's transformer layers, or the first few of them, ready to be trained; everything else is the original's own.

    Attributes:
        teacher: the original, with a count of calls of its own.
        model: the model that is trained; its calls are counted with the teacher's.
        parameters: the trained parameters, in fp32; they ask for no gradients yet.
    """

    teacher: StableDiffusion
    model: StableDiffusion
    parameters: list[nn.Parameter]

    @classmethod
    def of(cls, model: StableDiffusion, layers: int | None = None) -> Self:
        """A student of a model, which stays untouched.

        Args:
            model: the original.
            layers: only the first so many layers are trained; if absent, all of them and the last norm.
        """
        teacher = model.with_text_encoder(model.text_encoder)
        student = teacher.with_text_encoder(copy.deepcopy(model.text_encoder).float())
        student.calls = teacher.calls
        return cls(teacher, student, [p for name, p in student.text_encoder.named_parameters() if _is_trained(name, layers)])

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def requires_grad_(self, on: bool) -> None:
        """Whether the trained parameters ask for gradients."""
        for parameter in self.parameters:
            parameter.requires_grad_(on)


def _is_trained(name: str, layers: int | None) -> bool:
    if layers is None:
        return "embeddings." not in name
    found = re.search(r"\blayers\.(\d+)\.", name)
    return found is not None and int(found[1]) < layers
