"""Device, precision and random numbers: what is chosen, what is refused, whose numbers are drawn."""

from __future__ import annotations

import itertools

import pytest
import torch

from sgrace._util import device as devices
from sgrace._util.errors import InputError

CPU = torch.device("cpu")
HALF = [torch.bfloat16, torch.float16]


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has an accelerator"
)
def test_without_an_accelerator_auto_is_the_cpu_in_float32_and_others_are_refused() -> None:
    assert devices.choose_device("auto") == CPU
    assert devices.choose_dtype("auto", CPU) == torch.float32
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(InputError, match=r"finds no .*--device auto or --device cpu"):
            devices.choose_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_chosen_by_auto_and_a_card_that_is_not_there_is_refused() -> None:
    assert devices.choose_device("auto").type == "cuda"
    assert devices.choose_dtype("auto", torch.device("cuda")) in (torch.bfloat16, torch.float32)
    with pytest.raises(InputError, match="cuda:0"):
        devices.choose_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda0", "cuda:", "cpu:1", "", "CUDA"])
def test_an_unknown_device_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InputError, match=r"Unknown device .*(cuda|cpu|auto)"):
        devices.choose_device(name)


def test_the_device_without_values_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"meta holds shapes without values.*--device auto or --device cpu"):
        devices.choose_device("meta")


def test_a_dtype_is_taken_by_name_and_a_typo_names_the_nearest() -> None:
    assert devices.choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert devices.choose_dtype("float16", torch.device("mps")) == torch.float16
    assert devices.choose_dtype("auto", torch.device("mps")) == torch.float32
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        devices.choose_dtype("bflot16", CPU)


@pytest.mark.parametrize("dtype", HALF)
def test_autocast_lets_float32_parameters_work_on_half_precision_values(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(3, 2)
    values = torch.ones(1, 3, dtype=dtype)
    with pytest.raises(RuntimeError):
        layer(values)
    with devices.autocast_for(CPU, dtype):
        out = layer(values)
    assert out.dtype == dtype
    out.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_autocast_to_float32_changes_nothing() -> None:
    with devices.autocast_for(CPU, torch.float32):
        assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")


def test_running_out_of_memory_on_the_cpu_names_the_flags() -> None:
    flags = r"Out of memory; .*--batch-size.*--low-memory.*--dtype bfloat16"
    with pytest.raises(InputError, match=flags), devices.out_of_memory():
        torch.empty(1 << 60, dtype=torch.int8)  # more than a computer can address


def test_running_out_of_device_memory_gives_the_advice_and_other_errors_pass() -> None:
    with (
        pytest.raises(InputError, match="Out of memory; add --low-memory"),
        devices.out_of_memory("add --low-memory"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), devices.out_of_memory():
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    ("dtype", "way_out"),
    [
        (torch.float16, "bfloat16 or --dtype float32"),
        (torch.bfloat16, "--dtype float32"),
        (torch.float32, "learning rate"),
    ],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_with_the_way_out(
    dtype: torch.dtype, way_out: str, bad: float
) -> None:
    devices.check_finite(torch.tensor([1.0, -2.0], dtype=dtype), "The loss", dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=f"The loss became NaN or infinite in {name}; .*{way_out}"):
        devices.check_finite(torch.tensor([1.0, bad], dtype=dtype), "The loss", dtype)


def test_random_numbers_are_those_of_the_generator() -> None:
    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    weights = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0]])
    pairs = [
        (devices.randn((2, 3), seeded(), CPU), torch.randn(2, 3, generator=seeded())),
        (devices.rand((2, 3), seeded(), CPU), torch.rand(2, 3, generator=seeded())),
        (devices.randint(9, (5,), seeded(), CPU), torch.randint(9, (5,), generator=seeded())),
        (devices.randperm(7, seeded(), CPU), torch.randperm(7, generator=seeded())),
        (
            devices.multinomial(weights, 4, seeded(), CPU, replacement=True),
            torch.multinomial(weights, 4, True, generator=seeded()),
        ),
    ]
    for drawn, expected in pairs:
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize(
    ("n", "size", "lengths"),
    [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 5, [2]), (4, None, [4]), (0, 3, []), (0, None, [])],
)
def test_batches_cover_every_sample_once(n: int, size: int | None, lengths: list[int]) -> None:
    parts = [list(range(n))[part] for part in devices.batches(n, size)]
    assert [len(part) for part in parts] == lengths
    assert list(itertools.chain(*parts)) == list(range(n))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="--batch-size 0"):
        list(devices.batches(3, 0))
