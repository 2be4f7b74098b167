"""Another device on a computer that has only a CPU: code is run with real values and may not mix the two.

Inside `elsewhere()` a tensor moved to `DEVICE`, or made there, is marked by its storage. Its values stay on
the CPU, but its `device` is `DEVICE`, and all that is computed from it is marked too. A call that CUDA would
refuse because its tensors live on two devices raises `AssertionError` with the operation and the line.

Where there is a GPU, `SGRACE_TEST_DEVICE=cuda:0 pytest tests/test_devices.py` runs the same on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

REAL = os.environ.get("SGRACE_TEST_DEVICE")
#: The pretended one is known to torch by name alone; what gets there by mistake fails.
DEVICE = torch.device(REAL or "maia:7")
CPU = torch.device("cpu")
PROPERTIES: Any = Tensor  # its attributes are descriptors here, which their types do not say
aten = torch.ops.aten
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Operations without the tag `pointwise` that take a 0-dimensional CPU tensor beside others all the same.
TAKE_SCALARS = {aten.fill_, aten.fill, aten.masked_fill, aten.masked_fill_, aten.mse_loss, aten.where}
TAKE_SCALARS |= {aten._foreach_mul, aten._foreach_mul_}  # by `clip_grad_norm_`, which moves its factor itself

# By the address of the storage. A weak reference keeps the address from being used again, and not the memory.
_marked: dict[int, StorageWeakRef] = {}


def is_away(tensor: Tensor) -> bool:
    """Whether the tensor lives on `DEVICE`."""
    return _address(tensor) in _marked


def _address(tensor: Tensor) -> int:
    with torch._C.DisableTorchFunction():
        address: int = tensor.untyped_storage()._cdata
    return address


def _mark(tensor: Tensor, away: bool) -> Tensor:
    if away:
        with torch._C.DisableTorchFunction():
            _marked[_address(tensor)] = StorageWeakRef(tensor.untyped_storage())
    else:
        _marked.pop(_address(tensor), None)
    return tensor


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, (list, tuple, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _leaves(value)
    else:
        yield values


def _tensors(*values: Any) -> list[Tensor]:
    return [leaf for leaf in _leaves(values) if isinstance(leaf, Tensor)]


def _has_generator(*values: Any) -> bool:
    return any(isinstance(leaf, torch.Generator) for leaf in _leaves(values))


class _Move(torch.autograd.Function):
    """A copy on the other side; its gradient goes back to where the tensor came from."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, away: bool) -> Tensor:
        ctx.away = away
        return _mark(tensor.clone(), away)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _moved(gradient, not ctx.away), None


def _moved(tensor: Tensor, away: bool) -> Tensor:
    apply: Any = _Move.apply  # torch leaves it without types
    result: Tensor = apply(tensor, away)
    return result


class _Ledger:
    """What was mixed, and whether a torch function of marked tensors is running."""

    def __init__(self, strict: bool, draws: bool) -> None:
        self.strict = strict
        self.draws = draws
        self.mixed: list[str] = []
        self.inside = False

    def report(self, operation: str, what: str = "mixes devices") -> None:
        found = f"{operation} {what} at {_line()}"
        if self.strict:
            raise AssertionError(found)
        if found not in self.mixed:
            self.mixed.append(found)


def _line() -> str:
    """The innermost line of the package; if there is none, the innermost one outside torch."""
    lines = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    outside = [line for line in lines if "/torch/" not in line and not line.startswith(__file__)]
    return next((line for line in outside if "src/sgrace/" in line), outside[0])


class _Operations(TorchDispatchMode):
    """Sees every operation, also those of a backward pass: checks its tensors and marks what it makes."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.ledger = ledger

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = _tensors(args, kwargs)
        asked = kwargs.get("device") == DEVICE
        if asked:
            kwargs["device"] = CPU
        # What torch makes without any input, within a function of marked tensors, is made on their device.
        away = asked or any(map(is_away, tensors)) or (self.ledger.inside and not tensors)
        if _mixes(func, args, kwargs) or (away and _has_generator(args, kwargs)):
            self.ledger.report(str(func))
        random = torch.Tag.nondeterministic_seeded in func.tags and "attention" not in str(func)
        if away and random and not self.ledger.draws:
            self.ledger.report(str(func), "draws random numbers on the device")
        with torch._C.DisableTorchFunction():
            result = func(*args, **kwargs)
        given = set(map(_address, tensors))
        for made in _tensors(result):
            if away and _address(made) not in given:
                _mark(made, True)
        return result


def _mixes(func: Any, args: Any, kwargs: Any) -> bool:
    tensors = _tensors(args, kwargs)
    # A device tensor can be indexed from the CPU, and can be given a single value of the CPU.
    if func.overloadpacket in INDEXING and is_away(tensors[0]):
        tensors = [tensors[0], *(value for value in _tensors(args[2:3]) if value.dim())]
    home = [tensor for tensor in tensors if not is_away(tensor)]
    if not home or len(home) == len(tensors) or func.overloadpacket == aten.copy_:
        return False
    if torch.Tag.pointwise in func.tags or func.overloadpacket in TAKE_SCALARS:
        home = [tensor for tensor in home if tensor.dim()]
    return bool(home) or (func._schema.is_mutable and not is_away(tensors[0]))


class _Functions(TorchFunctionMode):
    """Sees every call of torch's functions: answers for the device, and moves."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func == PROPERTIES.device.__get__ and is_away(args[0]):
            return DEVICE
        if func == PROPERTIES.is_cpu.__get__:
            return not is_away(args[0])
        if func is torch.device or name == "_parse_to":  # the latter reads the arguments of a module's `to`
            return func(*args, **kwargs)
        tensors = _tensors(args, kwargs)
        sides = set(map(is_away, tensors))
        to = _destination(func, args, kwargs)
        if True in sides and name in ("numpy", "__array__", "__dlpack__"):
            self.ledger.report(name)
        if (True in sides or to) and _has_generator(args, kwargs):
            self.ledger.report(f"{name} with a CPU generator")
        if len(sides) == 2 and func in (PROPERTIES.grad.__set__, Tensor.backward):
            self.ledger.report("a gradient")
        if len(sides) == 2 and func == Tensor.copy_:
            args = (args[0], _moved(args[1], is_away(args[0])), *args[2:])
        if any(map(_names_device, _leaves((args, kwargs)))):
            args, kwargs = tree_map(lambda leaf: CPU if _names_device(leaf) else leaf, (args, kwargs))
        before = self.ledger.inside
        self.ledger.inside = before or bool(to) or True in sides
        try:
            result = func(*args, **kwargs)
        finally:
            self.ledger.inside = before
        if to is None or not isinstance(result, Tensor) or is_away(result) == to:
            return result
        fresh = result.is_leaf and _address(result) not in map(_address, tensors)
        return _mark(result, to) if fresh else _moved(result, to)


def _names_device(value: Any) -> bool:
    return isinstance(value, (torch.device, str)) and str(value) == str(DEVICE)


def _destination(func: Any, args: Any, kwargs: Any) -> bool | None:
    """Whether the call asks for its result elsewhere (True), on the CPU (False) or says nothing (None)."""
    if func == Tensor.cpu:
        return False
    if func == Tensor.__deepcopy__:  # copies the storage by itself
        return is_away(args[0])
    asked = [value for value in (*args, kwargs.get("device")) if isinstance(value, torch.device)]
    named = [kwargs.get("device"), *(args[1:] if func == Tensor.to else ())]
    asked += [torch.device(value) for value in named if isinstance(value, str)]
    if func == Tensor.to:
        asked += [DEVICE if is_away(other) else CPU for other in _tensors(args[1:], kwargs)]
    return asked[0] == DEVICE if asked else None


@contextmanager
def elsewhere(*, strict: bool = True, draws: bool = True) -> Iterator[list[str]]:
    """Inside, `DEVICE` is a device of its own.

    Gives the list of what was found; `strict` raises instead. Without `draws`, random numbers that come from
    `DEVICE` itself are found as well: they would differ between devices.
    """
    if REAL:
        with torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
            yield []
        return
    for address in [address for address, storage in _marked.items() if storage.expired()]:
        del _marked[address]
    ledger = _Ledger(strict, draws)
    functions = _Functions(ledger)
    start = torch.autocast.__init__

    def autocast(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        start(self, "cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    def backward(*args: Any, **kwargs: Any) -> Any:
        with functions:  # gradient checkpointing runs layers once more, and they ask for devices
            return _engine_run_backward(*args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.autocast, "__init__", autocast))
        stack.enter_context(patch.object(torch.autograd, "_engine_run_backward", backward))
        # Gradient checkpointing looks up the module of a device, and compares what torch itself sees.
        stack.enter_context(patch.object(torch, DEVICE.type, SimpleNamespace(), create=True))
        compared = {"default": lambda tensor: (tensor.shape, tensor.dtype)}
        stack.enter_context(patch.dict(checkpoint._allowed_determinism_checks_to_fns, compared))
        stack.enter_context(_Operations(ledger))
        stack.enter_context(functions)
        yield ledger.mixed
