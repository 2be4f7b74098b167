"""The pretended device refuses and allows what CUDA does, and computes what the CPU computes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sgrace.metrics.concept_space import coverage

from .elsewhere import DEVICE, elsewhere, is_away

N_IN, N_OUT = 3, 2
Call = Callable[[], Any]


def home(*shape: int) -> torch.Tensor:
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)


def away(*shape: int) -> torch.Tensor:
    return home(*shape).to(DEVICE)


def ids(*values: int, device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.tensor(values, device=device)


def attention_within(value: torch.Tensor, *, is_causal: bool = False) -> torch.Tensor:
    return F.scaled_dot_product_attention(value, value, value, is_causal=is_causal)


def gradient_of(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def step_with_state_left_behind() -> None:
    layer = nn.Linear(N_IN, N_OUT)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(home(1, N_IN)).sum().backward()
    optimizer.step()
    layer.to(DEVICE)
    layer(away(1, N_IN)).sum().backward()
    optimizer.step()


def step_with_gradient_left_behind() -> None:
    weight = nn.Parameter(away(2))
    weight.grad = home(2)


def backward_with_gradient_from_home() -> None:
    weight = away(2).requires_grad_()
    (weight * 2).backward(gradient=home(2))


MIXED: dict[str, Call] = {
    "add": lambda: away(2) + home(2),
    "add, reversed": lambda: home(2) + away(2),
    "one element is no scalar": lambda: away(2) * home(1),
    "a scalar elsewhere": lambda: home(2) * away(2).sum(),
    "add in place": lambda: home(2).add_(away(2)),
    "add in place to a scalar": lambda: home(2).sum().add_(away(2).sum()),
    "compare": lambda: away(2) > home(2),
    "lerp": lambda: torch.lerp(away(2), away(2), home(2)),
    "clamp": lambda: away(2).clamp(min=home(2)),
    "cat": lambda: torch.cat([away(2), home(2)]),
    "stack scalars": lambda: torch.stack([away(2).sum(), home(2).sum()]),
    "where": lambda: torch.where(home(2) > 1, away(2), away(2)),
    "masked_fill": lambda: away(2).masked_fill(home(2) > 1, 0.0),
    "matmul": lambda: away(2, 3) @ home(3, 2),
    "einsum": lambda: torch.einsum("ij,jk->ik", home(2, 3), away(3, 2)),
    "index on the CPU by a device index": lambda: home(3)[ids(0, 2, device=DEVICE)],
    "write on the CPU by a device index": lambda: home(3).index_put_((ids(0, device=DEVICE),), home(1)),
    "write home values by a home index": lambda: away(3).__setitem__(ids(0, 1), home(2)),
    "index_select": lambda: away(3).index_select(0, ids(0, 2)),
    "gather": lambda: away(3).gather(0, ids(0, 2)),
    "scatter": lambda: away(3).scatter(0, ids(0, 2), away(2)),
    "scatter of home values": lambda: away(3).scatter(0, ids(0, 2, device=DEVICE), home(2)),
    "embedding": lambda: F.embedding(ids(0, 1), away(3, 2)),
    "embedding module": lambda: nn.Embedding(3, 2).to(DEVICE)(ids(0, 1)),
    "module elsewhere": lambda: nn.Linear(N_IN, N_OUT).to(DEVICE)(home(1, N_IN)),
    "module at home": lambda: nn.Linear(N_IN, N_OUT)(away(1, N_IN)),
    "attention": lambda: F.scaled_dot_product_attention(away(1, 1, 2, 2), away(1, 1, 2, 2), home(1, 1, 2, 2)),
    "attention mask": lambda: F.scaled_dot_product_attention(
        away(1, 1, 2, 2), away(1, 1, 2, 2), away(1, 1, 2, 2), attn_mask=home(2, 2)
    ),
    "convolution": lambda: F.conv2d(away(1, 1, 3, 3), home(1, 1, 3, 3)),
    "loss": lambda: F.mse_loss(away(2), home(2)),
    "cross entropy": lambda: F.cross_entropy(away(2, 3), ids(0, 1)),
    "equal": lambda: torch.equal(away(2), home(2)),
    "a view": lambda: away(2, 2)[0] + home(2),
    "a parameter": lambda: nn.Parameter(away(2)) + home(2),
    "a deep copy": lambda: copy.deepcopy(away(2)) + home(2),
    "data": lambda: away(2).data + home(2),
    "optimizer state left behind": step_with_state_left_behind,
    "gradient left behind": step_with_gradient_left_behind,
    "gradient handed in": backward_with_gradient_from_home,
    "generator of a factory": lambda: torch.randn(2, generator=torch.Generator(), device=DEVICE),
    "generator of a method": lambda: away(2).normal_(generator=torch.Generator()),
    "generator of multinomial": lambda: torch.multinomial(away(2), 1, generator=torch.Generator()),
    "numpy": lambda: away(2).numpy(),
}


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED)
def test_a_mixed_call_is_refused(call: Call) -> None:
    with elsewhere(), pytest.raises(AssertionError, match="mixes devices at "):
        call()


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED)
def test_if_not_strict_a_mixed_call_is_listed_and_goes_on(call: Call) -> None:
    with elsewhere(strict=False) as mixed:
        call()
    assert mixed


ALLOWED: dict[str, Call] = {
    "numbers": lambda: 2 * away(2) + 1 - away(2) ** 2,
    "a scalar of the CPU": lambda: away(2) * torch.tensor(2.0),
    "a scalar of the CPU in place": lambda: away(2).mul_(torch.tensor(2.0)),
    "two scalars": lambda: away(2).sum() + torch.tensor(1.0),
    "where with scalars": lambda: torch.where(away(2) > 1, torch.tensor(1.0), away(2)),
    "masked_fill with a scalar": lambda: away(2).masked_fill(away(2) > 1, torch.tensor(1.0)),
    "index by a CPU index": lambda: away(3)[ids(0, 2)],
    "index by a CPU mask": lambda: away(3)[home(3) > 1],
    "index by a list": lambda: away(3)[[0, 2]],
    "write a scalar by a CPU index": lambda: away(3).index_put((ids(0, 1),), torch.tensor(1.0)),
    "write a slice": lambda: away(3)[:2].copy_(home(2)),
    "copy_": lambda: away(2).copy_(home(2)),
    "to a tensor": lambda: home(2).to(away(2)),
    "to with a dtype": lambda: home(2).to(DEVICE, torch.float64),
    "to a name": lambda: home(2).to(str(DEVICE)),
    "like": lambda: torch.zeros_like(away(2)) + away(2).new_ones(2) + torch.rand_like(away(2)),
    "like, elsewhere": lambda: torch.zeros_like(home(2), device=DEVICE) + home(2).new_ones(2, device=DEVICE),
    "factories": lambda: (
        torch.zeros(2, device=DEVICE) + torch.arange(2, device=DEVICE) + torch.tensor([1, 2], device=DEVICE)
    ),
    "as_tensor": lambda: torch.as_tensor(home(2), device=DEVICE) + torch.as_tensor([1.0, 2.0], device=DEVICE),
    "one_hot": lambda: F.one_hot(ids(0, 1, device=DEVICE), 3) * away(2, 3),
    "gumbel": lambda: F.gumbel_softmax(away(2, 3)) * away(2, 3),
    "cross entropy": lambda: F.cross_entropy(away(2, 3), ids(0, 1, device=DEVICE)),
    "causal attention": lambda: attention_within(away(1, 1, 2, 2), is_causal=True),
    "unbind": lambda: away(2, 3).unbind()[1] + away(2, 3).chunk(2)[0][0],
    "default device": lambda: _made_under_default_device() + away(2),
    "module made there": lambda: nn.Linear(N_IN, N_OUT, device=DEVICE)(away(1, N_IN)),
    "half precision": lambda: nn.Linear(N_IN, N_OUT).to(DEVICE, torch.bfloat16)(away(1, N_IN).bfloat16()),
}


def _made_under_default_device() -> torch.Tensor:
    with DEVICE:
        return torch.ones(2)


@pytest.mark.parametrize("call", ALLOWED.values(), ids=ALLOWED)
def test_what_torch_allows_is_allowed_and_the_result_is_elsewhere(call: Call) -> None:
    with elsewhere():
        result = call()
        assert result.device == DEVICE
        assert not result.is_cpu
        assert result.cpu().device.type == "cpu"
        assert result.to("cpu").device.type == "cpu"
        assert result.device == DEVICE  # moving copies


def test_at_home_nothing_changes() -> None:
    with elsewhere():
        result = nn.Linear(N_IN, N_OUT)(torch.randn(2, N_IN, generator=torch.Generator())) + home(2)
        assert result.device.type == "cpu"
        assert home(2).to("cpu").is_cpu
        assert (away(2).cpu() + home(2)).tolist() == [2.0, 4.0]
        assert torch.zeros_like(away(2), device="cpu").is_cpu
        assert home(2).to(away(2)).to(home(2)).is_cpu


def test_values_come_back_as_numbers() -> None:
    with elsewhere():
        assert away(2).tolist() == [1.0, 2.0]
        assert away(2).sum().item() == 3.0
        assert float(away(2)[1]) == 2.0
        assert bool((away(2) > 0).all())
        assert away(2).cpu().numpy().tolist() == [1.0, 2.0]
        assert home(5)[away(1).long()[0]] == 2.0  # a single integer is read, as in torch


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    with elsewhere():
        here = away(2)
        assert here.to(DEVICE) is here
        here[:1].mul_(5)
        assert here.tolist() == [5.0, 2.0]


def test_gradients_are_where_their_tensors_are() -> None:
    with elsewhere():
        start = home(2).requires_grad_()
        moved = start.to(DEVICE)
        weight = nn.Parameter(away(2))
        moved.retain_grad()
        (moved * weight).sum().backward()
        assert gradient_of(weight).device == DEVICE
        assert gradient_of(moved).device == DEVICE
        assert gradient_of(start).is_cpu
        assert gradient_of(start).tolist() == [1.0, 2.0]
        (gradient,) = torch.autograd.grad((weight**2).sum(), weight)
        assert gradient.device == DEVICE
        assert torch.zeros(2, device=DEVICE, requires_grad=True).is_leaf


def test_code_that_runs_again_in_a_backward_pass_sees_the_device() -> None:
    places = []

    def twice(value: torch.Tensor) -> torch.Tensor:
        places.append(value.device)
        return (value * torch.full((2,), 2.0, device=value.device)).sin()

    with elsewhere():
        value = away(2).requires_grad_()
        checkpoint(twice, value, use_reentrant=False).sum().backward()
        assert places == [DEVICE, DEVICE]
        assert gradient_of(value).device == DEVICE


def test_gradients_are_clipped_where_they_are() -> None:
    with elsewhere():
        layer = nn.Linear(N_IN, N_OUT).to(DEVICE)
        (layer(away(1, N_IN)) * 100).sum().backward()
        assert nn.utils.clip_grad_norm_(layer.parameters(), 1.0).device == DEVICE
        assert gradient_of(layer.weight).norm() <= 1
        assert gradient_of(layer.weight).device == DEVICE


def test_a_module_keeps_its_place_in_copies_and_states() -> None:
    with elsewhere():
        layer = nn.Linear(N_IN, N_OUT).to(DEVICE)
        layer.register_buffer("count", away(1))
        copied = copy.deepcopy(layer)
        states = copied.state_dict()
        assert {tensor.device for tensor in states.values()} == {DEVICE}
        layer.load_state_dict({name: tensor.cpu() * 2 for name, tensor in states.items()})
        assert {tensor.device for tensor in layer.state_dict().values()} == {DEVICE}
        assert torch.equal(layer.weight, copied.weight * 2)
        assert layer.cpu().weight.is_cpu
        assert (
            torch.func.functional_call(copied, dict(copied.named_parameters()), away(1, N_IN)).device
            == DEVICE
        )


def test_a_freed_address_is_not_taken_for_elsewhere() -> None:
    with elsewhere():
        for size in range(1, 200):
            away(size)
            assert not is_away(torch.empty(size))


def test_the_line_of_the_package_that_mixed_is_named() -> None:
    with (
        elsewhere(),
        pytest.raises(AssertionError, match=r"aten\.\w+\.\w+ mixes devices at .*concept_space\.py:\d+"),
    ):
        coverage(away(4, 2), home(4, 2), 2)


def test_without_the_package_the_line_of_the_caller_is_named() -> None:
    with elsewhere(), pytest.raises(AssertionError) as raised:
        away(2) + home(2)
    assert re.search(r"aten\.add\.Tensor mixes devices at .*test_elsewhere\.py:\d+$", str(raised.value))


def test_autocast_works_elsewhere() -> None:
    with elsewhere(), torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        result = nn.Linear(N_IN, N_OUT).to(DEVICE)(away(1, N_IN))
        assert result.dtype == torch.bfloat16
        assert result.device == DEVICE
