"""The copy of a model that is trained, beside the original that teaches it.

Its denoiser is trained, or its text encoders.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from ...models import DiffusionModel


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
    """The transformer layers of the text encoder, or the first few of them.

    Everything else is the original's own.

    Attributes:
        teacher: the original.
        model: the model that is trained; its calls are counted with the teacher's.
        parameters: the trained parameters, in float32; they ask for no gradients yet.
    """

    teacher: DiffusionModel
    model: DiffusionModel
    parameters: list[nn.Parameter]

    @classmethod
    def of(cls, teacher: DiffusionModel, layers: int | None = None) -> Self:
        """A student of a model, which stays untouched.

        Args:
            teacher: the original.
            layers: only the first so many layers are trained; if absent, all of them and the last norm.
        """
        main = teacher.text.main
        # float32 as in `Student`; a copy of the whole encoder, since it is saved as a whole
        student = teacher.replace(text={main.component: copy.deepcopy(main.module).float()})
        student.calls = teacher.calls
        module = student.text.main.module
        return cls(teacher, student, [module.get_parameter(name) for name in main.trainable(layers)])

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def requires_grad_(self, on: bool) -> None:
        """Whether the trained parameters ask for gradients."""
        for parameter in self.parameters:
            parameter.requires_grad_(on)

    def changed(self) -> dict[str, dict[str, Tensor]]:
        """The whole state of the trained encoder by component and name: it is saved to be dropped in."""
        main = self.model.text.main
        state = main.module.state_dict()
        # of tensors under two names, the first alone, as transformers saves them
        first = {value.data_ptr(): name for name, value in reversed(state.items())}
        return {main.component: {name: state[name].detach() for name in state if name in first.values()}}
