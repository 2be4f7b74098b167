"""Models by name, with the testbed and the erasure that belong to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.text import shown
from ..concept import Concept, Kind
from ..erasure import Erasure
from ..models import DiffusionModel
from ..models.loading import load_model_from

Model = DiffusionModel | str | Path
RECIPE = "recipe.json"
#: ``owner/name`` of the hub.
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


class LoadOptions(TypedDict, total=False):
    """Options of :func:`load_model`."""

    device: str
    dtype: str
    variant: str | None
    revision: str | None
    low_memory: bool
    batch_size: int | None


def load_model(
    name: str | Path = "emoji",
    *,
    device: str = "auto",
    dtype: str = "auto",
    variant: str | None = None,
    revision: str | None = None,
    low_memory: bool = False,
    batch_size: int | None = None,
) -> DiffusionModel:
    """A model by name.

    Args:
        name: ``emoji`` (built in), a diffusers folder, or a hub id such as ``CompVis/stable-diffusion-v1-4``.
        device: ``auto`` (the best that is there), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``, of the frozen networks.
        variant: of the weight files, such as ``fp16``.
        revision: of the hub repository.
        low_memory: keep only the network at work on the device, checkpoint gradients, decode in tiles.
        batch_size: samples that are computed together; the model's own, if absent. It changes no result.

    Raises:
        InputError: there is no such model, it cannot be read, or the device is not there.
    """
    source = str(name)
    if not source.strip():
        raise InputError("The name of the model is empty; give emoji, a diffusers folder or a hub id.")
    known = registry.names("testbeds")
    folder = registry.load("testbeds", source)().path() if source in known else None
    if folder is None and not _exists(Path(source)) and not _HUB_ID.fullmatch(source):
        raise unknown("model", source, [*known, "a diffusers folder", "a hub id such as owner/name"])
    model = load_model_from(
        folder or source,
        device=device,
        dtype=dtype,
        variant=variant,
        revision=revision,
        low_memory=low_memory,
    )
    if batch_size is not None:
        model.batch_size = batch_size
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


def load_target(
    model: Model | Erasure,
    original: Model | None = None,
    *,
    erasures: Sequence[Erasure | Path] = (),
    force: bool = False,
    options: LoadOptions | None = None,
) -> Loaded:
    """A model to be attacked or evaluated, with the model before erasing.

    Args:
        model: a loaded model, an erasure or its folder (applied to its base), or any name for
            :func:`load_model`.
        original: the model before erasing; the base that the erasure names, if absent.
        erasures: erasures or their folders, applied to the model in this order.
        force: apply erasures also to weights that they were not made on.
        options: of :func:`load_model`, for whatever is loaded by name; a revision is that of the model, or of
            the base where the model is an erasure.

    Raises:
        InputError: there is no such model, it cannot be read, or an erasure does not fit it.
    """
    loading = options or LoadOptions()
    folder = None if isinstance(model, DiffusionModel | Erasure) else _erasure_folder(model)
    loaded = model if folder is None else read_erasure(folder)
    own = loaded if isinstance(loaded, Erasure) else None
    more = [each if isinstance(each, Erasure) else read_erasure(each) for each in erasures]

    before: DiffusionModel | None
    if isinstance(loaded, Erasure):
        before = (
            _loaded(original, loading) if original is not None else load_base(loaded, folder, options=loading)
        )
        target = loaded.apply(before, force=force)
    else:
        before = None if original is None else _loaded(original, LoadOptions(**{**loading, "revision": None}))
        target = _loaded(loaded, loading)
        if more and before is None:
            before = target  # it is the model before these erasures
    for each in more:
        target = each.apply(target, force=force)
    applied = [each for each in (own, *more) if each is not None]
    return Loaded(target, before, applied[0] if len(applied) == 1 else None, folder)


def load_erased(
    name: str | Path | None,
    erasures: Sequence[Path] = (),
    *,
    force: bool = False,
    options: LoadOptions | None = None,
) -> DiffusionModel:
    """A model with erasures applied in order.

    Args:
        name: of the model; the base of the first erasure or, without erasures, ``emoji``, if absent.
        erasures: their folders.
        force: apply them also to weights that they were not made on.
        options: of :func:`load_model`.

    Raises:
        InputError: something cannot be read, or an erasure does not fit.
    """
    found = [read_erasure(folder) for folder in erasures]
    loading = options or LoadOptions()
    takes_base = name is None and bool(found)
    model = (
        load_base(found[0], erasures[0], options=loading)
        if takes_base
        else load_model("emoji" if name is None else name, **loading)
    )
    for erasure in found:
        model = erasure.apply(model, force=force)
    return model


def read_erasure(folder: Path) -> Erasure:
    """A saved erasure.

    Raises:
        InputError: the folder is none, or a part of it is not usable.
    """
    if not _exists(folder / RECIPE):
        raise InputError(f"{shown(folder)} is not an erasure: it has no {RECIPE}.")
    return Erasure.from_pretrained(folder)


def load_base(
    erasure: Erasure, folder: Path | None = None, *, options: LoadOptions | None = None
) -> DiffusionModel:
    """The model that an erasure was made from, in the revision of the options, else of the erasure."""
    given = options or LoadOptions()
    revision = given.get("revision") or erasure.recipe.base.revision
    return load_model(base_of(erasure, folder), **LoadOptions(**{**given, "revision": revision}))


def _loaded(model: Model, options: LoadOptions) -> DiffusionModel:
    return model if isinstance(model, DiffusionModel) else load_model(model, **options)


def _erasure_folder(name: str | Path) -> Path | None:
    return Path(name) if _exists(Path(name) / RECIPE) else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def base_of(erasure: Erasure, folder: Path | None) -> str:
    """Name of the model that an erasure was made from.

    A relative path was written from where the model was erased: it is looked up from here, then from the
    erasure's folder and the folders above it.
    """
    source = erasure.recipe.base.source
    if folder is None or source in registry.names("testbeds") or _exists(Path(source)):
        return source
    for start in (folder.resolve(), *folder.resolve().parents):
        if (start / source / "model_index.json").is_file():
            return str(start / source)
    return source


def named_concept(
    erasure: Erasure | None, concept: str | None, kind: Kind | None, model: DiffusionModel | None = None
) -> Concept:
    """The concept to be attacked; name and kind come from the erasure where they are not given.

    Args:
        erasure: what was erased; None where it is unknown.
        concept: its name, if it is given.
        kind: its kind, if it is given.
        model: under attack; its erasures count where the erasure is unknown, and know kinds.

    Raises:
        InputError: no concept is named and the erasure is not of exactly one, or the name is not readable.
    """
    carried: Sequence[Erasure] = () if model is None else model.erasures
    own = carried if erasure is None else (erasure,)
    erased = list(dict.fromkeys(each.name for erasure in own for each in erasure.recipe.concepts))
    stated = {
        each.name: each.kind
        for erasure in (*carried, *own)
        for each in erasure.recipe.concepts
        if each.kind is not None
    }
    if concept is None:
        if len(erased) != 1:
            choices = f": one of {', '.join(erased)}" if 0 < len(erased) <= 12 else ""
            raise InputError(f"Name the concept with --concept{choices}.")
        concept = erased[0]
    parsed = Concept.parse(concept)
    return Concept.parse(parsed, kind or stated.get(parsed.name))
