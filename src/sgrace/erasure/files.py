"""The folder of an erasure: one file or folder for each component that changed, parents, and the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from .._util import registry
from .._util.errors import InputError, unknown
from .._util.folders import new_folder
from .._util.hashing import sha256
from .._util.settings import config_from
from .._util.tensors import check_tensors, read_tensors, save_tensors
from .._util.text import shown
from ..models.adapters import KINDS
from ..models.guidance import Guidance
from .adapter import Adapter
from .card import CARD, Loading, card
from .composition import DTYPES
from .int8 import packed, read_weights
from .parts import Parts
from .recipe import Recipe
from .text_folder import WEIGHTS, read_text_folder

RECIPE, ADAPTER, GUIDANCE, PARENTS = "recipe.json", "adapter.safetensors", "guidance.safetensors", "parents"
#: A file of the folder as a recipe names it: no way out of the folder.
_NAME = re.compile(r"(?!\.)[\w.-]+(/(?!\.)[\w.-]+)*")


# -- writing ------------------------------------------------------------------------------------------------


def save(
    erasure: Parts,
    parents: Sequence[Parts],
    folder: Path,
    *,
    small: bool = False,
    dtype: torch.dtype | None = None,
) -> None:
    """Write an erasure and those beneath it into a new folder."""
    with new_folder(folder) as partial:
        names = [f"{PARENTS}/{n}" for n in range(len(parents))]
        for name, parent in zip(names, parents, strict=True):
            (partial / name).mkdir(parents=True)
            _write(parent, partial / name, small=small, dtype=dtype)
        _write(erasure, partial, small=small, dtype=dtype, parents=names)
        recipes = [each.recipe for each in (*parents, erasure)]
        text = card(recipes, loading(erasure, small=small))
        (partial / CARD).write_text(text, encoding="utf-8")


def loading(erasure: Parts, *, small: bool = False) -> list[Loading]:
    """How programs load an erasure; weights in int8 (``small``) are read by sgrace alone."""
    lines = ["import sgrace", 'model = sgrace.load_model("BASE")']
    lines.append('safe = sgrace.Erasure.from_pretrained("DIR").apply(model)')
    commands = [
        "sgrace generate PROMPT --erasure DIR -o image.png",
        "sgrace export DIR --format diffusers -o safe-model",
    ]
    found = [Loading("sgrace", "\n".join(lines)), Loading("sgrace, in a shell", "\n".join(commands), "sh")]
    for component, text in ({} if small else erasure.text).items():
        kind = (text.config.architectures or ["CLIPTextModel"])[0]
        code = f'from transformers import {kind}\nencoder = {kind}.from_pretrained("DIR/{component}")'
        found.append(Loading("transformers and diffusers", f"{code}\n# pipe.{component} = encoder"))
    return found


def _write(
    erasure: Parts, folder: Path, *, small: bool, dtype: torch.dtype | None, parents: Sequence[str] = ()
) -> None:
    precision = dtype or DTYPES.get(erasure.recipe.base.dtype or "", torch.float32)
    for component, own in erasure.tensors.items():
        tensors = _cast(own, precision)
        if component in erasure.text:
            erasure.text[component].save(folder / component, tensors, small=small)
        else:
            save_tensors(folder / f"{component}.safetensors", packed(tensors) if small else tensors)
    if erasure.adapter is not None:
        header = {"kind": erasure.adapter.kind, "component": erasure.adapter.component}
        save_tensors(folder / ADAPTER, _cast(erasure.adapter.tensors, precision), header)
    if erasure.guidance is not None:
        erasure.guidance.save(folder / GUIDANCE)
    # the digest of a parent's recipe stands for all of its files
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    names = [file.relative_to(folder).as_posix() for file in files]
    decisive = [name for name in names if not name.startswith(PARENTS) or name.endswith(f"/{RECIPE}")]
    digests = {name: sha256(folder / name) for name in decisive}
    recipe = erasure.recipe.model_copy(update={"parents": tuple(parents), "sha256": digests})
    (folder / RECIPE).write_text(recipe.to_json(), encoding="utf-8")


def _cast(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors as files hold them: on the CPU, contiguous, and finite in this precision too."""
    cast = {name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
    if not all(value.isfinite().all() for value in cast.values()):
        raise InputError(f"Weights of this erasure do not fit in {dtype}; save it with dtype=torch.float32.")
    return cast


# -- reading ------------------------------------------------------------------------------------------------


def read(folder: Path) -> list[Parts]:
    """An erasure and, behind it, those beneath it in their order.

    Raises:
        InputError: a file is missing, differs from what the recipe names, or cannot be used.
    """
    own = _read_one(folder)
    parents = [_read_one(folder / name) for name in own.recipe.parents]
    if any(parent.recipe.parents for parent in parents):
        raise InputError(
            f"{shown(folder)} is damaged: an erasure beneath another one has no parents of its own."
        )
    return [own, *parents]


def _read_one(folder: Path) -> Parts:
    if not (folder / RECIPE).is_file():
        raise InputError(f"{shown(folder)} is not an erasure: it has no {RECIPE}.")
    recipe = Recipe.read(folder / RECIPE)
    _check_files(folder, recipe)
    tensors, text = {}, {}
    for name in recipe.sha256:
        component, _, rest = name.partition("/")
        stem = component.removesuffix(".safetensors")
        if rest == WEIGHTS:
            tensors[component], text[component] = read_text_folder(folder / component)
        elif not rest and stem != component and name not in (ADAPTER, GUIDANCE):
            tensors[stem] = read_weights(folder / name)
    adapter = read_adapter(folder / ADAPTER) if ADAPTER in recipe.sha256 else None
    guidance = read_guidance(folder / GUIDANCE) if GUIDANCE in recipe.sha256 else None
    if not tensors and adapter is None and guidance is None:
        raise InputError(f"{shown(folder)} is not an erasure: its {RECIPE} names no weights.")
    return Parts(recipe=recipe, tensors=tensors, adapter=adapter, guidance=guidance, text=text)


def _check_files(folder: Path, recipe: Recipe) -> None:
    """Every file that decides a result must be named by the recipe and be the one that it names."""
    for name, digest in recipe.sha256.items():
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{shown(folder / RECIPE)}: sha256 must name files of its folder, not {name[:60]!r}."
            )
        if not (folder / name).is_file():
            raise InputError(f"{shown(folder)} is not complete: it has no {name[:80]}.")
        if sha256(folder / name) != digest:
            raise InputError(
                f"{shown(folder / name)} is not the file that the recipe names: it was changed or damaged."
            )
    deciding = _deciding(folder) | {f"{name}/{RECIPE}" for name in recipe.parents}
    if recipe.is_version_1:  # it named the weights only
        deciding = {name for name in deciding if name.endswith(".safetensors")}
    if stray := sorted(deciding - recipe.sha256.keys()):
        raise InputError(
            f"{shown(folder / stray[0])} is not named by the recipe: take it away, or erase again."
        )


def _deciding(folder: Path) -> set[str]:
    """Weights, and all that lies in the folders of text encoders."""
    found = [*folder.glob("*.safetensors")]
    for text_folder in folder.glob("text_encoder*"):
        found += text_folder.rglob("*")
    return {file.relative_to(folder).as_posix() for file in found if not file.is_dir()}


def read_adapter(file: Path) -> Adapter:
    """An adapter from a file of tensors, whose header says of which kind it is.

    Raises:
        InputError: there is no such kind, or the tensors cannot be used.
    """
    tensors, header = read_tensors(file)
    check_tensors(tensors, None, f"{shown(file)}")
    kind = header.get("kind", "gated")
    if kind not in KINDS:
        raise unknown("kind of adapters", kind, KINDS)
    return Adapter(kind, tensors, header.get("component", "unet"))


def read_guidance(file: Path) -> Guidance[Any]:
    """Guidance from a file of tensors, whose header says of which method it is.

    Raises:
        InputError: the file holds none, its kind is not installed, or its settings are not valid.
    """
    tensors, header = read_tensors(file)
    check_tensors(tensors, None, f"{shown(file)}")
    try:
        name = header["guidance"]
        values = json.loads(header["settings"])
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{shown(file)} holds no guidance.") from error
    kind = registry.load("erasers", name).guidance_type
    if kind is None or not isinstance(values, dict):
        raise InputError(f"{shown(file)} holds guidance of {name[:60]}, which has none.")
    guidance = cast("Guidance[Any]", kind(config_from(kind.config_type, values), tensors))
    if tensors.keys() != guidance.tensor_names or any(value.ndim != 2 for value in tensors.values()):
        wanted = ", ".join(sorted(guidance.tensor_names))
        raise InputError(f"{shown(file)} is damaged: guidance of {name} has one matrix each named {wanted}.")
    return guidance
