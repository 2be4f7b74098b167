"""Adapters beside the layers of a denoiser that is itself left as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._util.errors import InputError
from .sharing import Module, shared_copy
from .sites import Sites


def near(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter on the device of ``x``, in its own precision.

    Adapters in training are float32 and stay where they were made.
    """
    return parameter.to(x.device)


class LowRank(nn.Module):
    """What is added to a layer's output: ``up(down(x))``, of a low rank.

    Nothing as long as ``up`` is zero, as it is at first.

    Args:
        layer: a linear or convolution layer, of which shapes, stride and padding are taken.
        rank: width between the two.
        generator: draws ``down`` (Kaiming).
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        out, *inner = layer.weight.shape
        self.convolution = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else None
        # Kaiming's bound for a gain of 1: the variance of `down(x)` is that of x
        bound = math.sqrt(3 / math.prod(inner))
        device = layer.weight.device
        # torch.rand is 0..1, the bound is for both sides
        down = (torch.rand(rank, *inner, generator=generator) * 2 - 1) * bound
        self.down = nn.Parameter(down.to(device))
        # (out, rank), or (out, rank, 1, 1): behind a convolution, `up` mixes channels at each place
        self.up = nn.Parameter(torch.zeros(out, rank, *[1] * len(inner[1:]), device=device))

    def forward(self, x: Tensor) -> Tensor:
        """The addition, of the shape of the layer's output."""
        down = near(self.down, x)
        up = near(self.up, x)
        given = x.to(down.dtype)
        if self.convolution is None:
            # (..., in) -> (..., rank) -> (..., out)
            return F.linear(F.linear(given, down), up).to(x.dtype)
        stride, padding = self.convolution
        # (batch, in, height, width) -> (batch, rank, ...) -> (batch, out, ...), with the layer's own stride
        # and padding
        return F.conv2d(F.conv2d(given, down, None, stride, padding), up).to(x.dtype)

    def change(self) -> Tensor:
        """The same as a change of the layer's weight, of its shape."""
        # (out, rank) @ (rank, in * kernel) -> (out, in * kernel) -> the weight's shape
        return (self.up.flatten(1) @ self.down.flatten(1)).reshape(len(self.up), *self.down.shape[1:])


def adapted(denoiser: Module, adapters: Mapping[str, LowRank]) -> Module:
    """A copy that shares all parameters and adds to the outputs of the layers that ``adapters`` names."""
    # hooks are on the copy alone; the parameters are shared
    clone = shared_copy(denoiser, {})
    for name, adapter in adapters.items():

        def add(
            _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, adapter: LowRank = adapter
        ) -> Tensor:
            added: Tensor = adapter(inputs[0])
            return output + added

        clone.get_submodule(name).register_forward_hook(add)
    return clone


def gated(sites: Sites, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a denoiser with sets of adapters.

    Each is scaled for every sample by the likeness of its prompt to a text.

    The likeness is the cosine of the flattened prompt embeddings, 0 where it is negative. The adapters are
    part of the copy's state.

    Args:
        sites: of a denoiser without adapters, whose parameters are shared.
        tensors: ``SET/states`` ``(length, width)`` for each set, ``SET/LAYER/down`` and ``SET/LAYER/up`` for
            each of its layers.

    Raises:
        AttributeError: there is no such layer.
        KeyError: a set or an adapter is not whole.
        ValueError: an adapter does not fit its layer.
    """
    clone = shared_copy(sites.denoiser, {})
    texts = {key.partition("/")[0]: value for key, value in tensors.items() if key.endswith("/states")}
    likeness = _likeness(sites, clone, texts)
    for name in tensors:
        key, _, rest = name.partition("/")
        layer_name, _, part = rest.rpartition("/")
        if part != "down":
            continue
        layer = clone.get_submodule(layer_name)
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            raise ValueError(f"{layer_name} is no linear or convolution layer")
        down = tensors[name]
        up = tensors[f"{key}/{layer_name}/up"]
        adapter = LowRank(layer, len(down), torch.Generator())
        if adapter.down.shape != down.shape or adapter.up.shape != up.shape or key not in texts:
            raise ValueError(f"adapter {name} does not fit")
        adapter.down = nn.Parameter(down.to(layer.weight), requires_grad=False)
        adapter.up = nn.Parameter(up.to(layer.weight), requires_grad=False)
        layer.register_forward_hook(_scaled(adapter, likeness, key))
        layer.add_module(f"adapter_{key}", adapter)
    return not_alone(clone)


def _likeness(sites: Sites, clone: nn.Module, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each text the likeness of the prompts, one value a sample, filled anew at each call of the copy."""
    likeness: dict[str, Tensor] = {}

    def look(_denoiser: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        prompt_embeds = sites.map.prompt_embeds_of(inputs, named).float()
        for key in texts:
            own = clone.get_buffer(f"gate_{key}").to(prompt_embeds)
            # some families cut the zeros behind the text: (batch, shorter, width) -> (batch, length, width)
            whole = F.pad(prompt_embeds, (0, 0, 0, len(own) - prompt_embeds.shape[1]))
            # all positions of a prompt are one vector: (batch, length, width) -> (batch, length * width)
            cosine = F.cosine_similarity(whole.flatten(1), own.flatten()[None])
            likeness[key] = cosine.clamp(min=0)

    clone.register_forward_pre_hook(look, with_kwargs=True)
    for key, own in texts.items():
        clone.register_buffer(f"gate_{key}", own)
    return likeness


def _scaled(adapter: LowRank, likeness: Mapping[str, Tensor], key: str) -> Callable[..., Tensor]:
    """A hook that adds an adapter's output, times the likeness of each sample's prompt to a text."""

    def add(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # one factor a sample, whatever the rank of the output: (batch,) -> (batch, 1, ...)
        scale = likeness[key].to(output).view(-1, *[1] * (output.ndim - 1))
        added: Tensor = adapter(inputs[0])
        return output + scale * added

    return add


class Bottleneck(nn.Module):
    """What is added to the output of an attention layer: ``up(gelu(down(x)))``.

    Nothing as long as ``up`` is zero, as it is at first.

    Args:
        width: of the output.
        rank: width between the two.
        generator: draws ``down`` (uniform, as torch does).
    """

    def __init__(self, width: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        # the bound that torch gives its own linear layers
        bound = 1 / math.sqrt(width)
        self.down = nn.Parameter((torch.rand(rank, width, generator=generator) * 2 - 1) * bound)
        self.down_bias = nn.Parameter((torch.rand(rank, generator=generator) * 2 - 1) * bound)
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """The addition, of the shape of ``x``."""
        # (batch, places, width) -> (batch, places, rank)
        hidden = F.linear(x.to(self.down.dtype), near(self.down, x), near(self.down_bias, x))
        return F.linear(F.gelu(hidden), near(self.up, x), near(self.up_bias, x)).to(x.dtype)


def with_bottlenecks(sites: Sites, adapters: Mapping[str, Bottleneck]) -> nn.Module:
    """A copy of a denoiser that adds to the outputs of the layers that ``adapters`` names.

    The adapters are part of its state.
    """
    clone = shared_copy(sites.denoiser, {})
    for name, adapter in adapters.items():

        def add(_layer: nn.Module, _inputs: object, output: Tensor, adapter: Bottleneck = adapter) -> Tensor:
            added: Tensor = adapter(output)
            return output + added

        layer = clone.get_submodule(name)
        layer.register_forward_hook(add)
        # as a submodule it moves with the layer and is in its state
        layer.add_module("adapter", adapter)
    return not_alone(clone)


def bottlenecked(sites: Sites, tensors: Mapping[str, Tensor]) -> nn.Module:
    """:func:`with_bottlenecks` from tensors: ``LAYER/PARAMETER`` for each parameter of each layer's adapter.

    Raises:
        KeyError: an adapter is not whole.
        ValueError: there is no such text-reading layer, or an adapter does not fit it.
    """
    layers = sites.text_attention()
    adapters = {}
    for name in dict.fromkeys(key.rpartition("/")[0] for key in tensors):
        if name not in layers:
            raise ValueError(f"there is no layer {name} that reads the text")
        adapter = Bottleneck(layers[name].width, len(tensors[f"{name}/down"]), torch.Generator())
        for part, parameter in list(adapter.named_parameters()):
            value = tensors[f"{name}/{part}"]
            if value.shape != parameter.shape:
                raise ValueError(f"adapter {name}/{part} does not fit")
            setattr(adapter, part, nn.Parameter(value, requires_grad=False))
        adapters[name] = adapter.to(next(layers[name].module.parameters()))
    return with_bottlenecks(sites, adapters)


def not_alone(denoiser: Module) -> Module:
    """The denoiser, which refuses to be saved by itself.

    Other programs would load its weights without the adapters.

    The copy answers ``save_pretrained`` with an error; a model's pipeline with it does so at once.
    """

    def refuse(*_given: object, **_options: object) -> None:
        raise InputError(
            "This eraser leaves adapters beside the denoiser's weights, which no other program loads; "
            "save the erasure itself, or erase with a method or preset that changes the weights."
        )

    denoiser.save_pretrained = refuse  # type: ignore[assignment]
    return denoiser


#: Kind of a file of adapters -> the denoiser with them.
KINDS: dict[str, Callable[[Sites, Mapping[str, Tensor]], nn.Module]] = {
    "gated": gated,
    "bottleneck": bottlenecked,
}
