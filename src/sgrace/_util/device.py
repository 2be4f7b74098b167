"""Where a model computes, in which precision, and how random numbers get there. Knows tensors, no model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from .errors import InputError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LESS_MEMORY = "use a smaller --batch-size, add --low-memory, or choose --dtype bfloat16"

# How torch says that the CPU's memory has run out, on Linux and on Windows; the last one is MPS.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def choose_device(name: str) -> torch.device:
    """The device called `name`: auto, cpu, cuda, cuda:n or mps.

    `auto` is the first CUDA device, else MPS, else the CPU.

    Raises:
        InputError: if there is no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "meta":
        raise InputError(
            "The device meta holds shapes without values, so nothing can be computed there; use --device "
            "auto or --device cpu."
        )
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise unknown("device", name, [*DEVICES, "cuda:0"])
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("PyTorch finds no MPS device on this computer; use --device auto or --device cpu.")
    if device.type == "cuda":
        _check_cuda(device)
    return device


def _check_cuda(device: torch.device) -> None:
    if not torch.cuda.is_available():
        raise InputError(
            f"PyTorch finds no CUDA device for --device {device}; use --device auto or --device cpu, or "
            "install a CUDA build of PyTorch."
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise InputError(
            f"There is no {device}; choose one of: {', '.join(f'cuda:{i}' for i in range(count))}."
        )


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision called `name` of the frozen parts: auto, float32, float16 or bfloat16.

    `auto` is bfloat16 on CUDA where the card has it, and float32 elsewhere: nothing is trained in float16.

    Raises:
        InputError: if the name is none of these.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise unknown("dtype", name, ["auto", *DTYPES])
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32


def autocast_for(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Autocast to `dtype`, so that fp32 parameters work with half-precision values. Nothing for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def precision_of(network: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """The precision of a network in a model of a precision.

    Networks of which transformers keeps parts in float32, such as T5, overflow in float16; they are in
    bfloat16 there, which takes as much memory.
    """
    unsafe = dtype == torch.float16 and getattr(network, "_keep_in_fp32_modules", None)
    return torch.bfloat16 if unsafe else dtype


@contextmanager
def out_of_memory(advice: str = LESS_MEMORY) -> Iterator[None]:
    """Turn running out of memory, on any device, into one sentence that says what to change.

    Raises:
        InputError: if the code inside runs out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if known or any(said in str(error) for said in _NO_MEMORY):
            raise InputError(f"Out of memory; {advice}.") from error
        raise


def check_finite(value: Tensor, what: str, dtype: torch.dtype) -> None:
    """Check that `value`, computed by parts of precision `dtype`, holds no NaN and no infinity.

    Args:
        value: of any shape.
        what: it is, as a sentence begins: "The loss".
        dtype: of the parts.

    Raises:
        InputError: if it does; names the next wider precision.
    """
    if torch.isfinite(value).all():
        return
    way_out = {
        torch.float16: "use --dtype bfloat16 or --dtype float32",
        torch.bfloat16: "use --dtype float32",
    }.get(dtype, "use a smaller learning rate")
    name = str(dtype).removeprefix("torch.")
    raise InputError(f"{what} became NaN or infinite in {name}; {way_out}.")


# Random numbers come from CPU generators and are moved: a seed draws the same numbers on every device.


def randn(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers of this shape."""
    return torch.randn(tuple(shape), generator=generator).to(device)


def rand(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1) of this shape."""
    return torch.rand(tuple(shape), generator=generator).to(device)


def randint(high: int, shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Integers from 0 to `high - 1` of this shape."""
    return torch.randint(high, tuple(shape), generator=generator).to(device)


def randperm(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """The integers from 0 to `n - 1` in random order."""
    return torch.randperm(n, generator=generator).to(device)


def multinomial(
    weights: Tensor, n: int, generator: torch.Generator, device: torch.device, *, replacement: bool = False
) -> Tensor:
    """`n` indices of each row, with probability proportional to `weights` (on any device)."""
    return torch.multinomial(weights.detach().cpu(), n, replacement, generator=generator).to(device)


def batches(n: int, batch_size: int | None) -> Iterator[slice]:
    """Slices that cut `n` samples into batches of at most `batch_size` (one batch if None)."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"A batch has at least 1 sample; --batch-size {batch_size} is too small.")
    step = batch_size or max(n, 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
