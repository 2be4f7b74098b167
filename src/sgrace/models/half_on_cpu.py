"""Linear and convolution layers in half precision on CPUs that have no instructions for it.

There PyTorch falls back to code that is many times slower than in float32. These layers keep
their weights in half precision and compute in float32, one layer at a time: the memory of half precision at
about the speed of float32. Products of half-precision numbers are exact in float32 and what is rounded is the
output, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU has instructions for matrix products in a precision."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  (nothing public tells)
    if dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())  # noqa: SLF001
    return True


class _Linear(torch.autograd.Function):
    """``x W^T + b`` in float32; kept for the backward pass are the half-precision tensors alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        return F.linear(x.float(), weight.float(), _float(bias)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        above = gradient.float()
        # (..., out) -> (rows, out)
        rows = above.flatten(0, -2)
        return (
            (above @ weight.float()).to(x.dtype) if of_x else None,
            (rows.T @ x.float().flatten(0, -2)).to(weight.dtype) if of_weight else None,
            rows.sum(0).to(weight.dtype) if of_bias else None,
        )


class _Conv2d(torch.autograd.Function):
    """A convolution in float32; kept for the backward pass are the half-precision tensors alone."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = (stride, padding, dilation, False, (0, 0), groups)
        found = F.conv2d(x.float(), weight.float(), _float(bias), stride, padding, dilation, groups)
        return found.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            gradient.float(),
            x.float(),
            weight.float(),
            [len(weight)],
            *ctx.options,
            ctx.needs_input_grad[:3],
        )
        each = [None if value is None else value.to(x.dtype) for value in found]
        return (*each, None, None, None, None)


# torch leaves the type of `apply` open
_LINEAR: Callable[..., Tensor] = _Linear.apply
_CONV2D: Callable[..., Tensor] = _Conv2d.apply


class HalfLinear(nn.Linear):
    """A linear layer that computes in float32 where its input or autocast is in half precision."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (its name in torch)
        """As in torch."""
        kind = _half_of(input)
        if kind is None:
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            found: Tensor = _LINEAR(input.to(kind), self.weight.to(kind), _cast(self.bias, kind))
        return found


class HalfConv2d(nn.Conv2d):
    """A convolution that computes in float32 where its input or autocast is in half precision."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (its name in torch)
        """As in torch."""
        kind = _half_of(input)
        if kind is None:
            return super().forward(input)
        shape = (self.stride, self.padding, self.dilation, self.groups)
        with torch.autocast("cpu", enabled=False):
            found: Tensor = _CONV2D(input.to(kind), self.weight.to(kind), _cast(self.bias, kind), *shape)
        return found


def compute_in_float32(network: nn.Module) -> None:
    """Let every linear layer and convolution of a network compute in float32, in place."""
    for module in network.modules():
        # the very classes alone: a class of somebody else's has a forward pass of its own
        if type(module) is nn.Linear:
            module.__class__ = HalfLinear
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and module.padding != "same":
            module.__class__ = HalfConv2d


def _half_of(x: Tensor) -> torch.dtype | None:
    """The half precision in which a layer would compute here; none where it is not, or not on the CPU."""
    if x.device.type != "cpu":
        return None
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return kind if kind in (torch.bfloat16, torch.float16) else None


def _float(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.float()


def _cast(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if value is None else value.to(dtype)
