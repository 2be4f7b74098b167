"""Parameter groups of a denoiser by name, and copies that share what they do not change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn

from .._util.errors import unknown

Module = TypeVar("Module", bound=nn.Module)

#: Group -> whether a parameter of the denoiser belongs to it.
GROUPS: dict[str, Callable[[str], bool]] = {
    "cross_attention_kv": lambda name: name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")),
    "cross_attention": lambda name: ".attn2." in name,
    "attention": lambda name: ".attn1." in name or ".attn2." in name,
    "self_attention": lambda name: ".attn1." in name,
    "not_cross_attention": lambda name: ".attn2." not in name,
    "transformers": lambda name: ".attentions." in name,
    "all": lambda _name: True,
}


def group_names(module: nn.Module, group: str) -> list[str]:
    """Names of the parameters of a group, in the module's order.

    Raises:
        InputError: there is no such group.
    """
    if group not in GROUPS:
        raise unknown("parameter group", group, GROUPS)
    return [name for name, _ in module.named_parameters() if GROUPS[group](name)]


def shared_copy(module: Module, changed: Mapping[str, Tensor]) -> Module:
    """A copy that has its own parameters only where ``changed`` names them; all others are the original's own tensors.

    Raises:
        KeyError: a name is no parameter of the module.
        ValueError: a tensor has another shape.
    """
    parameters = dict(module.named_parameters())
    kept = [*parameters.values(), *module.buffers()]
    clone = copy.deepcopy(module, memo={id(tensor): tensor for tensor in kept})
    for name, value in changed.items():
        if value.shape != parameters[name].shape:
            raise ValueError(f"{name} has the shape {tuple(parameters[name].shape)}, not {tuple(value.shape)}.")
        owner, _, leaf = name.rpartition(".")
        setattr(clone.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    return clone
