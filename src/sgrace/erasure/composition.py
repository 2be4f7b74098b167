"""Whether an erasure may be applied: it must fit the model, and stand on the weights that it was made on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._util.errors import InputError, InputWarning
from .._util.hashing import sha256_of_tensors
from ..models import DiffusionModel
from ..models.guidance import Guidance
from ..models.origin import exists
from .adapter import Adapter
from .parts import Parts
from .recipe import Base

Tensors = Mapping[str, Mapping[str, Tensor]]
#: Precisions of models by name, the widest first.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

#: Share of a change that may be lost to rounding without a warning.
MOST_LOST = 0.5


def base_of(
    model: DiffusionModel,
    tensors: Tensors,
    adapter: Adapter | None = None,
    guidance: Guidance[Any] | None = None,
) -> Base:
    """What a recipe says of the model that was erased from, with the digests by which it is known again.

    Args:
        model: before erasing.
        tensors: changed tensors by component.
        adapter: tensors beside the denoiser's, if any.
        guidance: what steers the sampling, if anything.
    """
    source = Path(model.source)
    is_local = model.source != model.testbed and exists(source)
    return Base(
        source=str(source.resolve()) if is_local else model.source,
        **model.origin.absolute(),
        dtype=_name(model.dtype),
        testbed=model.testbed,
        family=model.family,
        sha256={
            component: _digests(own)
            for component, own in _standing_on(model, tensors, adapter, guidance).items()
        },
    )


def check_fit(erasure: Parts, model: DiffusionModel) -> None:
    """Raise InputError if a tensor has no place in the model, or the model cannot take another adapter."""
    text_components = {encoder.component for encoder in model.text}
    for component, tensors in erasure.tensors.items():
        if component not in {model.denoiser_component, *text_components}:
            raise _misfit(erasure, f"this one has no {component}")
        own = dict(model.components[component].named_parameters())
        for name, value in tensors.items():
            if name not in own:
                raise _misfit(erasure, f"the {component} of this one has no {name}")
            if value.shape != own[name].shape:
                shapes = f"{tuple(own[name].shape)}, not {tuple(value.shape)}"
                raise _misfit(erasure, f"{name} in the {component} of this one has the shape {shapes}")
            if own[name].dtype == torch.float16 and value.abs().max() > torch.finfo(torch.float16).max:
                raise InputError(f"{name} is too large for float16; load the model in bfloat16 or float32.")
    for encoder in model.text:
        known = erasure.text.get(encoder.component)
        if known and known.tokenizer and known.tokenizer.get_vocab() != encoder.tokenizer.get_vocab():
            raise _misfit(erasure, f"the {encoder.component} of this one reads other tokens")
    if erasure.adapter is not None and erasure.adapter.component != model.denoiser_component:
        raise _misfit(erasure, f"this one has no {erasure.adapter.component}")
    check_room(model, adapter=erasure.adapter is not None, guidance=erasure.guidance is not None)


def check_room(model: DiffusionModel, *, adapter: bool, guidance: bool) -> None:
    """Raise InputError if a model has an adapter, or guidance, and is to get another one."""
    if adapter and any(carried.adapter is not None for carried in model.erasures):
        raise InputError(
            "This model has an adapter already, and it takes only one; erase all concepts together, "
            "or use a method that changes weights."
        )
    if guidance and model.guidance is not None:
        raise InputError(
            f"This model is steered by {model.guidance.name} already, and it takes only one; erase all "
            "concepts together, or use a method that changes weights."
        )


def check_effect(erasure: Parts, model: DiffusionModel) -> None:
    """Look at what a change of weights leaves in the precision of the model that it was made on.

    Raises:
        InputError: every weight is what it was.
    """
    method = erasure.recipe.method
    if erasure.changes_nothing(model):
        raise InputError(
            f"With these settings {method} leaves every weight as it was, so nothing is erased; "
            f"`sgrace info {method}` explains the settings."
        )
    if (lost := erasure.rounding_loss(model)) > MOST_LOST:
        told = f"Rounding to {_name(model.dtype)} loses {lost:.0%} of what {method} changed"
        warnings.warn(f"{told}; use --dtype float32.", InputWarning, stacklevel=3)


def check_base(erasure: Parts, model: DiffusionModel, parents: Sequence[Parts] = ()) -> None:
    """Raise InputError if the erasure was made on other weights than the model has.

    Args:
        erasure: to be applied.
        model: to which; it has all parents.
        parents: erasures that were on the model on which this one was made.
    """
    places = _standing_on(model, erasure.tensors, erasure.adapter, erasure.guidance)
    known = []
    for other in model.erasures:
        theirs = _standing_on(model, other.tensors, other.adapter, other.guidance)
        shared = sorted(name for name, own in places.items() if own.keys() & theirs.get(name, {}).keys())
        if shared and not any(other.same_as(parent) for parent in parents):
            raise _undone(erasure, other, shared[0])
        known += shared
    for component, own in places.items():
        # a parent has set these tensors: that it is the right one is known, and its precision is its file's
        if component not in known:
            _check_digest(erasure, model, component, own)


def _check_digest(erasure: Parts, model: DiffusionModel, component: str, own: Mapping[str, Tensor]) -> None:
    digests = erasure.recipe.base.sha256.get(component)
    if digests is None:
        if erasure.recipe.is_version_1:  # it knew no digests
            return
        raise InputError(
            f"The recipe has no digest of the {component} that this erasure was made on, so it cannot be "
            "checked; erase again, or force it (--force)."
        )
    mine = _narrowest(own.values())
    # a digest of a cast compares only with a cast from the same or a wider precision
    comparable = [name for name in DTYPES if name in digests and mine in ("float32", name)]
    if not comparable:
        raise InputError(
            f"This erasure was made in {', '.join(digests)}, so it cannot be checked on a model in {mine}. "
            f"Load the model with dtype float32 or {next(iter(digests), 'float32')}, or force it (--force)."
        )
    if _digest(own, DTYPES[comparable[0]]) != digests[comparable[0]]:
        source = erasure.recipe.base.source
        raise InputError(
            f"This erasure was made on another model: the {component} of {model.source!r} has other weights "
            f"than that of {source!r}. Apply it to {source!r}, or force it (--force)."
        )


def _standing_on(
    model: DiffusionModel, tensors: Tensors, adapter: Adapter | None, guidance: Guidance[Any] | None
) -> dict[str, dict[str, Tensor]]:
    """The model's own tensors that an erasure replaces or relies on, by component and name.

    An adapter relies on the layers beside it, guidance on the text encoder that its embeddings come from.
    """
    found: dict[str, dict[str, Tensor]] = {}

    def add(component: str, names: Sequence[str] | None) -> None:
        module = model.components.get(component)
        own = {} if module is None else dict(module.named_parameters())
        kept = own if names is None else {name: own[name] for name in names if name in own}
        found.setdefault(component, {}).update(kept)

    for component, changed in tensors.items():
        add(component, list(changed))
    if adapter is not None:
        module = model.components.get(adapter.component)
        layers = () if module is None else adapter.layers(module)
        names = [] if module is None else [name for name, _ in module.named_parameters()]
        add(adapter.component, [name for name in names if name.startswith(layers)])
    if guidance is not None:
        add(model.text.main.component, None)
    return found


def _digests(own: Mapping[str, Tensor]) -> dict[str, str]:
    """Digests of tensors in their own precision and, from float32, in the narrower ones."""
    mine = _narrowest(own.values())
    names = DTYPES if mine == "float32" else (mine,)
    return {name: _digest(own, DTYPES[name]) for name in names}


def _digest(own: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    return sha256_of_tensors({name: own[name] for name in sorted(own)}, dtype=dtype)


def _narrowest(tensors: Iterable[Tensor]) -> str:
    """The precision of tensors; of mixed ones, the one that has lost most."""
    names = {_name(tensor.dtype) for tensor in tensors}
    return next((name for name in reversed(DTYPES) if name in names), "float32")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _misfit(erasure: Parts, reason: str) -> InputError:
    return InputError(f"This erasure was made for another model ({erasure.recipe.base.source!r}): {reason}.")


def _undone(erasure: Parts, other: Parts, component: str) -> InputError:
    mine, theirs = erasure.names, other.names
    return InputError(
        f"The erasure of {theirs} has changed the {component} already, and that of {mine} would undo it; "
        f"erase {theirs} and {mine} together, or erase {mine} from the safe model: erase(safe, ...), or "
        "`sgrace erase` with --erasure. "
        "--force applies it anyway."
    )
