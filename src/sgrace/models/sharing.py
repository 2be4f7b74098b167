"""Copies of networks that share what they do not change."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def shared_copy(module: Module, changed: Mapping[str, Tensor]) -> Module:
    """A copy with its own parameters only where ``changed`` names them.

    All others are the original's own tensors.

    Raises:
        KeyError: a name is no parameter of the module.
        ValueError: a tensor has another shape.
    """
    parameters = dict(module.named_parameters())
    # deepcopy takes what its memo holds for copied: these tensors are shared, everything else is new
    kept = [*parameters.values(), *module.buffers()]
    clone = copy.deepcopy(module, memo={id(tensor): tensor for tensor in kept})
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, value in changed.items():
        # a parameter of another shape would only fail later, inside a forward pass
        if value.shape != parameters[name].shape:
            raise ValueError(
                f"{name} has the shape {tuple(parameters[name].shape)}, not {tuple(value.shape)}."
            )
        fresh = nn.Parameter(value, requires_grad=False)
        # the copy's own modules get a new parameter, all that share it: the original's are other objects
        for each in names[id(parameters[name])]:
            owner, _, leaf = each.rpartition(".")
            setattr(clone.get_submodule(owner), leaf, fresh)
    return clone
