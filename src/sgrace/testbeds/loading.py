"""Models by name, with the testbed and the erasure that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .._util import registry
from .._util.errors import InputError, unknown
from ..concept import Concept, Kind
from ..erasure import Erasure
from ..models import DiffusionModel
from ..models.loading import load_model_from

Model = DiffusionModel | str | Path


def load_model(
    name: str | Path = "emoji",
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    revision: str | None = None,
    low_memory: bool = False,
) -> DiffusionModel:
    """A model by name.

    Args:
        name: ``emoji`` (built in), a diffusers folder, or a hub id such as ``CompVis/stable-diffusion-v1-4``.
        device: ``auto`` (the best that is there), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``, of the frozen networks.
        variant: of the weight files, such as ``fp16``.
        revision: of the hub repository.
        low_memory: keep only the network at work on the device, checkpoint gradients, decode in tiles.

    Raises:
        InputError: there is no such model, it cannot be read, or the device is not there.
    """
    source = str(name)
    known = registry.names("testbeds")
    folder = registry.load("testbeds", source)().path() if source in known else None
    if folder is None and not Path(source).exists() and "/" not in source:
        raise unknown("model", source, [*known, "a diffusers folder", "a hub id such as owner/name"])
    model = load_model_from(
        folder or source,
        device=device,
        dtype=dtype,
        variant=variant,
        revision=revision,
        low_memory=low_memory,
    )
    if folder is not None:
        model.source = source  # not the path it has on this machine
        model.testbed = source
    return model


class Loaded(NamedTuple):
    """A model to be attacked or evaluated.

    Attributes:
        target: the model itself.
        original: the model before erasing; None where it is unknown.
        erasure: what turns one into the other; None where it is unknown.
        folder: of the erasure.
    """

    target: DiffusionModel
    original: DiffusionModel | None = None
    erasure: Erasure | None = None
    folder: Path | None = None


def load_target(model: Model | Erasure, original: Model | None = None) -> Loaded:
    """A model to be attacked or evaluated, with the model before erasing.

    Args:
        model: a loaded model, an erasure or its folder (applied to its base), or any name for
            :func:`load_model`.
        original: the model before erasing; the base that the erasure names, if absent.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    before = load_model(original) if isinstance(original, str | Path) else original
    if isinstance(model, DiffusionModel):
        return Loaded(model, before)
    folder: Path | None = None
    if isinstance(model, Erasure):
        erasure = model
    elif (Path(model) / "recipe.json").is_file():
        folder = Path(model)
        erasure = Erasure.from_pretrained(folder)
    else:
        return Loaded(load_model(model), before)
    if before is None:
        before = load_model(base_of(erasure, folder))
    return Loaded(erasure.apply(before), before, erasure, folder)


def base_of(erasure: Erasure, folder: Path | None) -> str:
    """Name of the model that an erasure was made from.

    A relative path was written from where the model was erased: it is looked up from here, then from the
    erasure's folder and the folders above it.
    """
    source = erasure.recipe.base.source
    if folder is None or source in registry.names("testbeds") or Path(source).exists():
        return source
    for start in (folder.resolve(), *folder.resolve().parents):
        if (start / source / "model_index.json").is_file():
            return str(start / source)
    return source


def named_concept(erasure: Erasure | None, concept: str | None, kind: Kind | None) -> tuple[str, Kind | None]:
    """Name and kind of the concept to be attacked; both come from the erasure where they are not given.

    Raises:
        InputError: no concept is named and the erasure is not of exactly one, or the name is not readable.
    """
    targets = erasure.recipe.targets if erasure else ()
    known: dict[str, Kind] = {target.concept.name: target.concept.kind for target in targets}
    if concept is None:
        if len(known) != 1:
            raise InputError("Name the concept with --concept.")
        concept = next(iter(known))
    name = Concept.parse(concept).name
    return name, kind or known.get(name)
