"""Models and their parts from folders and the hub, with one clear sentence for whatever cannot be read."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from .._util.device import choose_device, choose_dtype
from .._util.errors import InputError
from . import families
from .base import DiffusionModel
from .families._pipelines import load_pipeline, pipeline_class, quiet_libraries, reason

#: File beside a pipeline: CLIP's projection from pooled text states to the space shared with images.
TEXT_PROJECTION = "text_projection.safetensors"


def known_families() -> list[type[DiffusionModel]]:
    """Every family of models, one for each file of ``families`` that is no helper."""
    found: list[type[DiffusionModel]] = []
    for module in pkgutil.iter_modules(families.__path__):
        if module.name.startswith("_"):
            continue
        home = importlib.import_module(f"{families.__name__}.{module.name}")
        classes = [value for value in vars(home).values() if isinstance(value, type)]
        found += [one for one in classes if issubclass(one, DiffusionModel) and one is not DiffusionModel]
    return list(dict.fromkeys(found))


def known_pipelines() -> dict[str, type[DiffusionModel]]:
    """The classes of pipelines that the families read, with their families."""
    return {name: family for family in known_families() for name in family.pipelines}


def load_model_from(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    revision: str | None = None,
    low_memory: bool = False,
) -> DiffusionModel:
    """A model from a diffusers folder or a hub id.

    Args:
        source: folder or hub id.
        device: ``auto`` (the best that is there), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``, of the frozen networks.
        variant: of the weight files, such as ``fp16``.
        revision: of the hub repository.
        low_memory: keep only the network at work on the device, checkpoint gradients, decode in tiles.

    Raises:
        InputError: it is not a readable pipeline of a known family, or the device is not there.
    """
    chosen = choose_device(device)
    kind = choose_dtype(dtype, chosen)
    with quiet_libraries():
        name = pipeline_class(source, revision)
        family = known_pipelines().get(name or "")
        if family is None:
            raise InputError(
                f"{source} holds a {name}; the pipelines that can be read are: "
                f"{', '.join(known_pipelines())}."
            )
        model = family.from_pipeline(load_pipeline(source, kind, variant, revision), str(source))
    for encoder in model.text:
        # transformers loads an empty tokenizer without a word
        known = set(encoder.tokenizer.get_vocab().values())
        if known <= encoder.special_ids:  # what transformers makes of a folder without files
            raise InputError(
                f"Cannot load {str(source)!r}: the tokenizer of its {encoder.component} is missing or empty."
            )
    # recorded, so that a recipe names what was loaded
    model.revision = revision
    projection = Path(source) / TEXT_PROJECTION
    if projection.is_file():
        model.text = model.text.with_projection(load_file(projection)["weight"].float())
    if low_memory:
        model.low_memory = True
        model.save_memory()
    return model.to(chosen, kind)


def load_component(folder: str | Path, like: torch.nn.Module) -> torch.nn.Module:
    """A network of the same class and sizes as a model's own, frozen.

    Raises:
        InputError: the folder holds none, or one of other sizes.
    """
    # no pickles: loading one runs code
    options = {"use_safetensors": True, "dtype": next(like.parameters()).dtype}
    try:
        found = type(like).from_pretrained(folder, **options).eval().requires_grad_(False)  # type: ignore[attr-defined]
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"Cannot load {folder} as a {type(like).__name__} ({reason(error)}).") from error
    # shapes by name: the class alone does not say the sizes
    own = {name: value.shape for name, value in like.state_dict().items()}
    other = {name: value.shape for name, value in found.state_dict().items()}
    if wrong := next((name for name in own if own[name] != other.get(name)), None):
        raise InputError(
            f"{folder} does not fit the model: {wrong} has the shape {list(other.get(wrong, ()))}, not "
            f"{list(own[wrong])}."
        )
    module: torch.nn.Module = found
    return module
