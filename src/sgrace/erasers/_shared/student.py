"""The copy of a model that is trained, beside the original that teaches it.

Its denoiser is trained, or its text encoders.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import DiffusionModel, TextEncoder


@dataclass(frozen=True)
class Student:
    """One site of a denoiser, ready to be trained; everything else is the original's own.

    Attributes:
        teacher: the original.
        model: the model that is trained; its calls are counted with the teacher's.
        names: of the trained parameters.
        parameters: the trained parameters, in float32.
    """

    teacher: DiffusionModel
    model: DiffusionModel
    names: Sequence[str]
    parameters: list[Tensor]

    @classmethod
    def of(cls, teacher: DiffusionModel, site: str) -> Self:
        """A student of a model, which stays untouched.

        Raises:
            InputError: there is no such site.
        """
        own = teacher.sites.parameters(site)
        # float32 whatever the model's type: steps of an optimizer are smaller than half precision resolves
        fresh = {name: value.clone().float() for name, value in own.items()}
        student = teacher.with_denoiser_parameters(fresh)
        # one count for both: the recipe states what the whole method cost
        student.calls = teacher.calls
        parameters = [student.denoiser.get_parameter(name).requires_grad_(True) for name in fresh]
        return cls(teacher, student, list(fresh), parameters)

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def changed(self) -> dict[str, dict[str, Tensor]]:
        """The trained tensors by component and name, as they are now."""
        tensors = {name: value.detach() for name, value in zip(self.names, self.parameters, strict=True)}
        return {self.teacher.denoiser_component: tensors}

    def snapshot(self) -> list[Tensor]:
        """Copies of the trained tensors as they are now."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def restore(self, values: Sequence[Tensor]) -> None:
        """Put the values of a snapshot back."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                # in place: the optimizer and the model hold these very tensors
                parameter.copy_(value)


@dataclass(frozen=True)
class TextStudent:
    """The transformer layers of some text encoders, or the first few of them.

    Everything else is the original's own.

    Attributes:
        teacher: the original.
        model: the model that is trained; its calls are counted with the teacher's.
        encoders: the trained ones, as the model has them.
        parameters: the trained parameters, in float32; they ask for no gradients yet.
        originals: the teacher's own, in its precision.
    """

    teacher: DiffusionModel
    model: DiffusionModel
    encoders: Sequence[TextEncoder]
    parameters: list[nn.Parameter]
    originals: list[nn.Parameter]

    @classmethod
    def of(
        cls, teacher: DiffusionModel, which: str = "clip", *, layers: int | None = None, pooled: bool = False
    ) -> Self:
        """A student of a model, which stays untouched.

        Args:
            teacher: the original.
            which: encoders, as :meth:`TextStack.select` takes them.
            layers: only the first so many layers are trained; if absent, all of them and the last norm.
            pooled: the loss reads the pooled feature too, so that it reaches encoders that give nothing else.

        Raises:
            InputError: there is no such encoder.
        """
        chosen = teacher.text.select(which, pooled=pooled)
        # float32 as in `Student`; a copy of the whole encoder, since it is saved as a whole
        student = teacher.replace(text={own.component: copy.deepcopy(own.module).float() for own in chosen})
        student.calls = teacher.calls
        encoders = [student.text[own.name] for own in chosen]
        pairs = [(own, name) for own in encoders for name in own.trainable(layers)]
        parameters = [own.module.get_parameter(name) for own, name in pairs]
        originals = [teacher.text[own.name].module.get_parameter(name) for own, name in pairs]
        return cls(teacher, student, encoders, parameters, originals)

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def requires_grad_(self, on: bool) -> None:
        """Whether the trained parameters ask for gradients."""
        for parameter in self.parameters:
            parameter.requires_grad_(on)

    def changes(self) -> Iterator[Tensor]:
        """How far each parameter is from its original, in float32."""
        for parameter, original in zip(self.parameters, self.originals, strict=True):
            yield parameter - original.to(parameter)

    @torch.no_grad()
    def shrink_changes(self, by: float) -> None:
        """Move every parameter by at most so much towards its original, and no further: a soft threshold."""
        for parameter, original in zip(self.parameters, self.originals, strict=True):
            start = original.to(parameter)
            parameter.copy_(start + F.softshrink(parameter - start, by))

    def changed(self) -> dict[str, dict[str, Tensor]]:
        """The whole state of each trained encoder by component and name: it is saved to be dropped in."""
        return {own.component: _whole(own.module.state_dict()) for own in self.encoders}


def _whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors; of those under two names, the first alone, as transformers saves them."""
    first = {value.data_ptr(): name for name, value in reversed(list(state.items()))}
    return {name: state[name].detach() for name in state if name in first.values()}
