"""Layers that keep half-precision weights and compute in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sgrace.models import half_on_cpu
from sgrace.models.half_on_cpu import compute_in_float32

from ..families import model_of

HALF = [torch.bfloat16, torch.float16]
#: A layer and the shape of its input.
LAYERS = {
    "linear": (nn.Linear(12, 7), (2, 5, 12)),
    "linear without bias": (nn.Linear(12, 7, bias=False), (3, 12)),
    "convolution": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 9)),
    "grouped convolution": (nn.Conv2d(4, 6, 3, dilation=2, groups=2, bias=False), (2, 4, 9, 9)),
}


def gradients(layer: nn.Module, x: Tensor, above: Tensor) -> list[Tensor]:
    """The output, and gradients of the input and of the parameters, in float64."""
    x = x.clone().requires_grad_()
    out = layer(x)
    values = [x, *layer.parameters()]
    found = torch.autograd.grad(out, values, above.to(out.dtype))
    return [out.detach().double(), *(value.double() for value in found)]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_exact_arithmetic_gives_but_for_the_last_rounding(
    name: str, dtype: torch.dtype
) -> None:
    own, shape = LAYERS[name]
    layer = copy.deepcopy(own).to(dtype)
    exact = copy.deepcopy(layer).double()
    compute_in_float32(layer)
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    above = torch.randn(exact(x.double()).shape).to(dtype).double()
    found = gradients(layer, x, above)
    for one, other in zip(found, gradients(exact, x.double(), above), strict=True):
        torch.testing.assert_close(one, other, rtol=torch.finfo(dtype).eps, atol=1e-2)


@pytest.mark.parametrize("dtype", HALF)
def test_weights_in_training_stay_float32_and_get_float32_gradients(dtype: torch.dtype) -> None:
    layer = nn.Linear(6, 3)
    compute_in_float32(layer)
    with torch.autocast("cpu", dtype=dtype):
        out = layer(torch.ones(2, 6))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, torch.full((3, 6), 2.0))


def test_float32_is_left_as_it_was() -> None:
    layer = nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 5, 5)
    before = layer(x)
    compute_in_float32(layer)
    assert torch.equal(layer(x), before)


def test_a_class_of_somebody_else_keeps_its_forward_pass() -> None:
    class Own(nn.Linear):
        pass

    network = nn.Sequential(Own(2, 2), nn.Linear(2, 2))
    compute_in_float32(network)
    assert [type(layer) for layer in network] == [Own, half_on_cpu.HalfLinear]


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_what_this_processor_computes_by_itself_is_left_to_it(dtype: torch.dtype) -> None:
    model = model_of("stable_diffusion").to(dtype=dtype)
    kinds = {type(layer) for layer in model.denoiser.modules() if isinstance(layer, nn.Linear)}
    assert kinds == {nn.Linear if half_on_cpu.is_native(dtype) else half_on_cpu.HalfLinear}
