"""Another device on a computer that has only a CPU: code is run with real values and may not mix the two.

Inside `elsewhere()` a tensor moved to `DEVICE`, or made there, is marked by its storage. Its values stay on
the CPU, but its `device` is `DEVICE`, and all that is computed from it is marked too. A call that CUDA would
refuse because its tensors live on two devices raises `AssertionError` with the operation and the line.

Where there is a GPU, `SGRACE_TEST_DEVICE=cuda:0 pytest tests/test_devices.py` runs the same on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
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

REAL = os.environ.get("SGRACE_TEST_DEVICE")
#: The pretended one is known to torch by name alone; what gets there by mistake fails.
DEVICE = torch.device(REAL or "maia:7")
CPU = torch.device("cpu")
PROPERTIES: Any = Tensor  # its attributes are descriptors here, which their types do not say
DEVICE_OF = PROPERTIES.device.__get__
IS_CPU = PROPERTIES.is_cpu.__get__
SET_GRADIENT = PROPERTIES.grad.__set__
MOVES = {Tensor.cpu, Tensor.to, Tensor.__deepcopy__}  # besides all that is given a device
PLAIN = {bool, int, float, type(None)}  # most of what functions are given, and never looked at
READ = ("dtype", "shape", "ndim", "grad", "grad_fn", "is_sparse")
# What is called most often and only reads: it needs no look at the devices.
READS = {torch.is_floating_point, torch.is_complex, torch._has_compatible_shallow_copy_type}
READS |= {Tensor.dim, Tensor.size, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex}
READS |= {getattr(PROPERTIES, name).__get__ for name in READ}
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
    address: int = tensor.untyped_storage()._cdata
    return address


def _mark(tensor: Tensor, away: bool) -> Tensor:
    if away:
        _marked[_address(tensor)] = StorageWeakRef(tensor.untyped_storage())
    else:
        _marked.pop(_address(tensor), None)
    return tensor


def _leaves(values: Iterable[Any]) -> list[Any]:
    """What is given, and what lists, tuples and dictionaries among it hold, but for plain values."""
    found: list[Any] = []
    for value in values:
        if type(value) in PLAIN:
            continue
        if isinstance(value, (list, tuple)):
            found += _leaves(value)
        elif isinstance(value, dict):
            found += _leaves(value.values())
        else:
            found.append(value)
    return found


def _tensors(leaves: Iterable[Any]) -> list[Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _has_generator(leaves: Iterable[Any]) -> bool:
    return any(type(leaf) is torch.Generator for leaf in leaves)


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
        with torch._C.DisableTorchFunction():
            return self._run(func, args, dict(kwargs or {}))

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        leaves = _leaves((args, kwargs))
        tensors = _tensors(leaves)
        sides = [is_away(tensor) for tensor in tensors]
        asked = kwargs.get("device") == DEVICE
        if asked:
            kwargs["device"] = CPU
        # What torch makes without any input, within a function of marked tensors, is made on their device.
        away = asked or any(sides) or (self.ledger.inside and not tensors)
        if not away:
            return func(*args, **kwargs)
        if _mixes(func, args, tensors, sides) or _has_generator(leaves):
            self.ledger.report(str(func))
        random = torch.Tag.nondeterministic_seeded in func.tags and "attention" not in str(func)
        if random and not self.ledger.draws:
            self.ledger.report(str(func), "draws random numbers on the device")
        result = func(*args, **kwargs)
        given = set(map(_address, tensors))
        for made in _tensors(_leaves((result,))):
            if _address(made) not in given:
                _mark(made, True)
        return result


def _mixes(func: Any, args: Any, tensors: list[Tensor], sides: list[bool]) -> bool:
    if all(sides):
        return False
    # A device tensor can be indexed from the CPU, and can be given a single value of the CPU.
    if func.overloadpacket in INDEXING and sides[0]:
        tensors = [tensors[0], *(value for value in _tensors(_leaves(args[2:3])) if value.dim())]
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
        if func == DEVICE_OF and is_away(args[0]):
            return DEVICE
        if func == IS_CPU:
            return not is_away(args[0])
        leaves = [] if func in READS else _leaves((args, kwargs))
        # `_parse_to` reads the arguments of a module's `to`
        if not leaves or func is torch.device or name == "_parse_to":
            return func(*args, **kwargs)
        tensors = _tensors(leaves)
        sides = set(map(is_away, tensors))
        devices = [leaf for leaf in leaves if isinstance(leaf, (torch.device, str))]
        to = _destination(func, args, kwargs) if devices or func in MOVES else None
        if True in sides and name in ("numpy", "__array__", "__dlpack__"):
            self.ledger.report(name)
        if (True in sides or to) and _has_generator(leaves):
            self.ledger.report(f"{name} with a CPU generator")
        if len(sides) == 2 and func in (SET_GRADIENT, Tensor.backward):
            self.ledger.report("a gradient")
        if len(sides) == 2 and func == Tensor.copy_:
            args = (args[0], _moved(args[1], is_away(args[0])), *args[2:])
        if any(map(_names_device, devices)):
            args = [CPU if _names_device(value) else value for value in args]
            kwargs = {key: CPU if _names_device(value) else value for key, value in kwargs.items()}
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
        asked += [DEVICE if is_away(other) else CPU for other in _tensors(_leaves((args[1:], kwargs)))]
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
