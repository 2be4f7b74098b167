"""Models by name, with the testbed and the erasure that belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .._util import registry
from .._util.errors import InputError, unknown
from ..concept import Concept, Kind
from ..erasure import Erasure
from ..models import StableDiffusion

Model = StableDiffusion | str | Path


def load_model(name: str | Path = "emoji") -> StableDiffusion:
    """A model by name.

    Args:
        name: ``emoji`` (built in), a diffusers folder, or a hub id such as ``CompVis/stable-diffusion-v1-4``.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    source = str(name)
    known = registry.names("testbeds")
    if source in known:
        model = StableDiffusion.from_pretrained(registry.load("testbeds", source)().path())
        model.source = source  # not the path it has on this machine
        model.testbed = source
        return model
    if not Path(source).exists() and "/" not in source:
        raise unknown("model", source, [*known, "a diffusers folder", "a hub id such as owner/name"])
    return StableDiffusion.from_pretrained(source)


class Loaded(NamedTuple):
    """A model to be attacked or evaluated.

    Attributes:
        target: the model itself.
        original: the model before erasing; None where it is unknown.
        erasure: what turns one into the other; None where it is unknown.
        folder: of the erasure.
    """

    target: StableDiffusion
    original: StableDiffusion | None = None
    erasure: Erasure | None = None
    folder: Path | None = None


def load_target(model: Model | Erasure, original: Model | None = None) -> Loaded:
    """A model to be attacked or evaluated, with the model before erasing.

    Args:
        model: a loaded model, an erasure or its folder (applied to its base), or any name for :func:`load_model`.
        original: the model before erasing; the base that the erasure names, if absent.

    Raises:
        InputError: there is no such model, or it cannot be read.
    """
    before = load_model(original) if isinstance(original, str | Path) else original
    if isinstance(model, StableDiffusion):
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

    A relative path was written from where the model was erased: it is looked up from here, then from the erasure's folder and
    the folders above it.
    """
    source = str(erasure.recipe["base_model"])
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
    known = {row["name"]: row["kind"] for row in erasure.recipe["concepts"]} if erasure else {}
    if concept is None:
        if len(known) != 1:
            raise InputError("Name the concept with --concept.")
        concept = next(iter(known))
    name = Concept.parse(concept).name
    return name, kind or known.get(name)
