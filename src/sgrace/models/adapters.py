"""Adapters beside the layers of a denoiser that is itself left as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sites import Module, shared_copy


class LowRank(nn.Module):
    """What is added to a layer's output: ``up(down(x))``, of a low rank; nothing as long as ``up`` is zero, as it is at first.

    Args:
        layer: a linear or convolution layer, of which shapes, stride and padding are taken.
        rank: width between the two.
        generator: draws ``down`` (Kaiming).
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        out, *inner = layer.weight.shape
        self.convolution = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else None
        bound = math.sqrt(3 / math.prod(inner))
        self.down = nn.Parameter((torch.rand(rank, *inner, generator=generator) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(out, rank, *(1 for _ in inner[1:])))

    def forward(self, x: Tensor) -> Tensor:
        """The addition, of the shape of the layer's output."""
        if self.convolution is None:
            return F.linear(F.linear(x, self.down), self.up)
        stride, padding = self.convolution
        return F.conv2d(F.conv2d(x, self.down, None, stride, padding), self.up)

    def change(self) -> Tensor:
        """The same as a change of the layer's weight, of its shape."""
        return (self.up.flatten(1) @ self.down.flatten(1)).reshape(len(self.up), *self.down.shape[1:])


def adapted(unet: Module, adapters: Mapping[str, LowRank]) -> Module:
    """A copy that shares all parameters and adds to the outputs of the layers that ``adapters`` names."""
    clone = shared_copy(unet, {})
    for name, adapter in adapters.items():

        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, adapter: LowRank = adapter) -> Tensor:
            return output + adapter(inputs[0])

        clone.get_submodule(name).register_forward_hook(add)
    return clone


def gated(unet: Module, tensors: Mapping[str, Tensor]) -> Module:
    """A copy that shares all parameters and holds sets of adapters, each scaled for every row by the likeness of its text to a text.

    The likeness is the cosine of the flattened text states, 0 where it is negative. The adapters are part of the copy's state.

    Args:
        unet: without adapters.
        tensors: ``SET/states`` ``(length, width)`` for each set, ``SET/LAYER/down`` and ``SET/LAYER/up`` for each of its layers.

    Raises:
        AttributeError: there is no such layer.
        KeyError: a set or an adapter is not whole.
        ValueError: an adapter does not fit its layer.
    """
    clone = shared_copy(unet, {})
    states = {key.partition("/")[0]: value for key, value in tensors.items() if key.endswith("/states")}
    likeness: dict[str, Tensor] = {}

    def look(_unet: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        text = named["encoder_hidden_states"] if "encoder_hidden_states" in named else inputs[2]
        for key, own in states.items():
            likeness[key] = F.cosine_similarity(text.flatten(1), own.to(text).flatten()[None]).clamp(min=0)

    clone.register_forward_pre_hook(look, with_kwargs=True)
    for key, own in states.items():
        clone.register_buffer(f"gate_{key}", own)
    for name in tensors:
        key, _, rest = name.partition("/")
        layer_name, _, part = rest.rpartition("/")
        if part != "down":
            continue
        layer, up = clone.get_submodule(layer_name), tensors[f"{key}/{layer_name}/up"]
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise ValueError(f"{layer_name} is no linear or convolution layer")
        adapter = LowRank(layer, len(tensors[name]), torch.Generator())
        if adapter.down.shape != tensors[name].shape or adapter.up.shape != up.shape or key not in states:
            raise ValueError(f"adapter {name} does not fit")
        adapter.down, adapter.up = (nn.Parameter(value, requires_grad=False) for value in (tensors[name], up))

        def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, adapter: LowRank = adapter, key: str = key) -> Tensor:
            return output + likeness[key].view(-1, *(1 for _ in output.shape[1:])) * adapter(inputs[0])

        layer.register_forward_hook(add)
        layer.add_module(f"adapter_{key}", adapter)
    return clone


class Bottleneck(nn.Module):
    """What is added to the output of an attention layer: ``up(gelu(down(x)))``; nothing as long as ``up`` is zero, as it is at first.

    Args:
        width: of the output.
        rank: width between the two.
        generator: draws ``down`` (uniform, as torch does).
    """

    def __init__(self, width: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.down = nn.Parameter((torch.rand(rank, width, generator=generator) * 2 - 1) * bound)
        self.down_bias = nn.Parameter((torch.rand(rank, generator=generator) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The addition, of the shape of ``x``."""
        return F.linear(F.gelu(F.linear(x, self.down, self.down_bias)), self.up, self.up_bias)


def with_bottlenecks(unet: Module, adapters: Mapping[str, Bottleneck]) -> Module:
    """A copy that shares all parameters and adds to the outputs of the layers that ``adapters`` names; they are part of its state."""
    clone = shared_copy(unet, {})
    for name, adapter in adapters.items():

        def add(_layer: nn.Module, _inputs: object, output: Tensor, adapter: Bottleneck = adapter) -> Tensor:
            return output + adapter(output)

        layer = clone.get_submodule(name)
        layer.register_forward_hook(add)
        layer.add_module("adapter", adapter)
    return clone


def attention_layers(unet: nn.Module) -> dict[str, int]:
    """Name and width of every cross-attention layer."""
    return {name: layer.to_out[0].out_features for name, layer in unet.named_modules() if name.endswith("attn2")}


def bottlenecked(unet: Module, tensors: Mapping[str, Tensor]) -> Module:
    """:func:`with_bottlenecks` from tensors: ``LAYER/PARAMETER`` for each parameter of each layer's adapter.

    Raises:
        KeyError: an adapter is not whole.
        ValueError: there is no such cross-attention layer, or an adapter does not fit it.
    """
    widths, adapters = attention_layers(unet), {}
    for layer in dict.fromkeys(name.rpartition("/")[0] for name in tensors):
        if layer not in widths:
            raise ValueError(f"there is no cross-attention layer {layer}")
        adapter = Bottleneck(widths[layer], len(tensors[f"{layer}/down"]), torch.Generator())
        for name, parameter in list(adapter.named_parameters()):
            value = tensors[f"{layer}/{name}"]
            if value.shape != parameter.shape:
                raise ValueError(f"adapter {layer}/{name} does not fit")
            setattr(adapter, name, nn.Parameter(value, requires_grad=False))
        adapters[layer] = adapter
    return with_bottlenecks(unet, adapters)


#: Kind of a file of adapters -> the denoiser with them.
KINDS: dict[str, Callable[..., nn.Module]] = {"gated": gated, "bottleneck": bottlenecked}
