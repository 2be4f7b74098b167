"""Models by name, with the testbed and the erasure that belong to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.text import shown
from ..erasure import Erasure
from ..models import DiffusionModel
from ..models.loading import load_model_from
from ..models.origin import Origin, exists
from ..models.published import PUBLISHED, hub_id_of
from .base import Testbed

Model = DiffusionModel | str | Path
RECIPE = "recipe.json"
#: ``owner/name`` of the hub.
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


class LoadOptions(TypedDict, total=False):
    """Options of :func:`load_model`: how to load, and what beside the model's name."""

    device: str
    dtype: str
    low_memory: bool
    batch_size: int | None
    threads: int | None
    variant: str | None
    revision: str | None
    config: str | Path | None
    text_encoder: str | Path | Mapping[str, str | Path] | None
    denoiser: str | Path | None
    loras: Sequence[str | Path]
    embeddings: Sequence[str | Path]


def load_model(
    name: str | Path | Any = "emoji",  # noqa: ANN401  (a pipeline of diffusers has a class of each family)
    *,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: bool = False,
    batch_size: int | None = None,
    threads: int | None = None,
    variant: str | None = None,
    revision: str | None = None,
    config: str | Path | None = None,
    text_encoder: str | Path | Mapping[str, str | Path] | None = None,
    denoiser: str | Path | None = None,
    loras: Sequence[str | Path] = (),
    embeddings: Sequence[str | Path] = (),
) -> DiffusionModel:
    """A model by name, with parts of it from elsewhere where they are given.

    Parts are named as a file, a folder, or ``HUB_ID[@REVISION][:PATH]`` with a sub-folder or file of the
    repository. All of them are read as safetensors.

    Args:
        name: ``emoji`` (built in), a diffusers folder, a checkpoint in one safetensors file, a hub id or its
            short name (:data:`PUBLISHED`), or a loaded pipeline of diffusers, which is taken as it is.
        device: ``auto`` (the best that is there; a loaded pipeline's own), ``cpu``, ``cuda``, ``cuda:1`` or
            ``mps``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``, of the frozen networks.
        low_memory: keep only the network at work on the device, checkpoint gradients, decode in tiles.
        batch_size: samples that are computed together; the model's own, if absent. It changes no result.
        threads: of the CPU, in erasing, attacks, evaluations and drawing; by the size of the denoiser, if
            absent.
        variant: of the weight files, such as ``fp16``.
        revision: of the hub repository.
        config: folder or hub id of a pipeline whose configuration a model in one file has; the published
            model's, if absent.
        text_encoder: in the place of the pipeline's ``text_encoder``, or several by component.
        denoiser: in the place of the pipeline's UNet or transformer; a file may hold some weights only.
        loras: ``SOURCE[=SCALE]``, fused into the weights in this order.
        embeddings: ``SOURCE[=TOKEN]``, words that textual inversion learned.

    Raises:
        InputError: there is no such model or part, it cannot be read or does not fit, or the device is not
            there.
    """
    origin = Origin(
        variant=variant,
        revision=revision,
        config=config,
        text_encoder=text_encoder,
        denoiser=denoiser,
        loras=loras,
        embeddings=embeddings,
    )
    if isinstance(name, str):
        name = hub_id_of(name)
    own = _testbed(name) if isinstance(name, str | Path) else None
    given = name if own is None else own.path()
    model = load_model_from(given, origin, device=device, dtype=dtype, low_memory=low_memory)
    if batch_size is not None:
        model.batch_size = batch_size
    model.threads = threads
    if own is not None:
        model = own.completed(model)
        model.source = own.name  # not the path it has on this machine
        model.testbed = own.name
    return model


def _testbed(name: str | Path) -> Testbed | None:
    """The testbed that brings a model of this name; None where it is a folder, a file or a hub id.

    Raises:
        InputError: there is no such model.
    """
    source = str(name)
    if not source.strip():
        raise InputError("The name of the model is empty; give emoji, a folder, a file or a hub id.")
    known = registry.names("testbeds")
    found: Testbed | None = registry.load("testbeds", source)() if source in known else None
    if found is not None and found.path() is not None:
        return found
    if not exists(source) and not _HUB_ID.fullmatch(source):
        raise unknown("model", source, [*known, *PUBLISHED, "a diffusers folder or file", "a hub id"])
    return None


class Loaded(NamedTuple):
    """A model to be attacked or evaluated.

    Attributes:
        target: the model itself.
        original: the model before erasing; None where it is unknown.
        erasure: what turns one into the other; None where it is unknown.
        folder: of the erasure.
        transferred: whether only text encoders of erasures are in it, and it is not the model that they were
            made on.
    """

    target: DiffusionModel
    original: DiffusionModel | None = None
    erasure: Erasure | None = None
    folder: Path | None = None
    transferred: bool = False


def load_target(
    model: Model | Erasure,
    original: Model | None = None,
    *,
    erasures: Sequence[Erasure | Path] = (),
    into: Model | None = None,
    force: bool = False,
    options: LoadOptions | None = None,
) -> Loaded:
    """A model to be attacked or evaluated, with the model before erasing.

    Args:
        model: a loaded model, an erasure or its folder (applied to its base), or any name for
            :func:`load_model`.
        original: the model before erasing; the base that the erasure names, if absent.
        erasures: erasures or their folders, applied to the model in this order.
        into: another model with such text encoders, which gets those of the erasures and nothing else. It is
            then the original.
        force: apply erasures also to weights that they were not made on.
        options: of :func:`load_model`, for whatever is loaded by name; revision and parts are those of the
            model, or of the base where the model is an erasure. Without an original, a model with other
            networks has itself with its own networks for one.

    Raises:
        InputError: there is no such model, it cannot be read, or an erasure does not fit it.
    """
    loading = options or LoadOptions()
    folder = None if isinstance(model, DiffusionModel | Erasure) else _erasure_folder(model)
    loaded = model if folder is None else read_erasure(folder)
    own = loaded if isinstance(loaded, Erasure) else None
    more = [each if isinstance(each, Erasure) else read_erasure(each) for each in erasures]

    before: DiffusionModel | None
    if into is not None:
        if own is None or original is not None:
            raise InputError(
                "--into takes the text encoder of an erasure, and needs its folder for TARGET and no --base; "
                "of another model, put it in with --text-encoder."
            )
        before = target = _loaded(into, loading)
        own = own.text_part()
        more = [each.text_part() for each in more]
        force = True  # it was made on other weights
        target = own.apply(before, force=force)
    elif isinstance(loaded, Erasure):
        before = (
            _loaded(original, loading) if original is not None else load_base(loaded, folder, options=loading)
        )
        target = loaded.apply(before, force=force)
    else:
        target = _loaded(loaded, loading)
        before = _before(target, loaded, original, loading)
        if more and before is None:
            before = target  # it is the model before these erasures
    for each in more:
        target = each.apply(target, force=force)
    applied = [each for each in (own, *more) if each is not None]
    return Loaded(target, before, applied[0] if len(applied) == 1 else None, folder, into is not None)


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
    if not exists(folder / RECIPE):
        raise InputError(f"{shown(folder)} is not an erasure: it has no {RECIPE}.")
    return Erasure.from_pretrained(folder)


def load_base(
    erasure: Erasure, folder: Path | None = None, *, options: LoadOptions | None = None
) -> DiffusionModel:
    """The model that an erasure was made from, with the parts that its recipe or the options name."""
    recorded = {name: getattr(erasure.recipe.base, name) for name in Origin.model_fields}
    given = {name: value for name, value in (options or {}).items() if value}
    return load_model(base_of(erasure, folder), **LoadOptions(**{**recorded, **given}))  # type: ignore[typeddict-item]


def _before(
    target: DiffusionModel, name: Model, original: Model | None, loading: LoadOptions
) -> DiffusionModel | None:
    """The model before erasing, where it is given, or known because only networks were exchanged."""
    how: Any = {key: value for key, value in loading.items() if key not in Origin.model_fields}
    if original is not None:
        return _loaded(original, how)
    if isinstance(name, DiffusionModel) or not target.origin.exchanges:
        return None
    plain: Any = {**loading, "text_encoder": None, "denoiser": None}
    dtype = str(target.dtype).removeprefix("torch.")
    own = load_model(name, **{**plain, "device": "cpu", "dtype": dtype})
    # what is the same in both is loaded once
    before = target.replace(
        denoiser=own.denoiser if target.origin.denoiser else None,
        text={component: own.components[component] for component in target.origin.text_encoder},
    )
    before.origin = own.origin
    return before.to(target.device, target.dtype)


def _loaded(model: Model, options: LoadOptions) -> DiffusionModel:
    return model if isinstance(model, DiffusionModel) else load_model(model, **options)


def _erasure_folder(name: str | Path) -> Path | None:
    return Path(name) if exists(Path(name) / RECIPE) else None


def base_of(erasure: Erasure, folder: Path | None) -> str:
    """Name of the model that an erasure was made from.

    A relative path was written from where the model was erased: it is looked up from here, then from the
    erasure's folder and the folders above it.
    """
    source = erasure.recipe.base.source
    if folder is None or source in registry.names("testbeds") or exists(Path(source)):
        return source
    for start in (folder.resolve(), *folder.resolve().parents):
        if (start / source / "model_index.json").is_file():
            return str(start / source)
    return source
