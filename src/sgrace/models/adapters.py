"""Low-rank adapters beside the layers of a denoiser that is itself left as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Module, shared_copy


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
