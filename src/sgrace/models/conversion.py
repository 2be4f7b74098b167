"""Weights in pickles, read as tensors only and written as safetensors."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._util.errors import InputError
from .._util.files import new_file
from .._util.folders import new_folder
from .._util.pickles import is_pickle
from .._util.tensors import save_tensors
from .._util.text import check_regular_file, is_torn, read_json, shown

#: How torch names what a pickle would call.
_CALLED = re.compile(r"GLOBAL (\S+)")

#: Before the names of the weights in a checkpoint of a training.
_WEIGHTS = "state_dict."
#: The vectors of a learned word as the web UI saves them; it keeps the word elsewhere in the file.
_LEARNED = "string_to_param.*"


#: Deepest nesting of dictionaries.
MAX_DEPTH = 50
#: How often a file's size its tensors may have: weights that are tied share their values.
MOST_TIMES = 4


class Converted(NamedTuple):
    """What was written.

    Attributes:
        files: how many were written as safetensors.
        tensors: how many are in them.
        left_out: names of what were no tensors.
    """

    files: int
    tensors: int
    left_out: tuple[str, ...]


def convert(source: Path, out: Path) -> Converted:
    """Write the weights of a pickle, or of all pickles of a folder, as safetensors.

    Tensors are read with ``torch.load(weights_only=True)`` and in no other way. Everything else in a folder
    is copied, and files are named as diffusers and transformers look for them.

    Args:
        source: file or folder.
        out: new file, or new folder.

    Raises:
        InputError: there is no pickle, it holds code or no tensors, or ``out`` cannot be written.
    """
    if not source.is_dir():
        check_regular_file(source, "a file of weights")
        if not is_pickle(source):
            raise InputError(f"{shown(source)} is no pickle: there is nothing to convert.")
        if out.suffix.lower() != ".safetensors":
            raise InputError(f"{shown(out)} must be a .safetensors file.")
        with new_file(out) as partial:
            return _convert_file(source, partial)
    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
    if not any(is_pickle(file) for file in files):
        raise InputError(f"{shown(source)} holds no pickle: there is nothing to convert.")
    with new_folder(out) as folder:
        done = [_convert_into(file, folder / file.relative_to(source).parent) for file in files]
    found = [one for one in done if one is not None]
    left_out = [name for one in found for name in one.left_out]
    return Converted(len(found), sum(one.tensors for one in found), tuple(left_out))


def read_pickle(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a pickle by name, and the names of everything else in it.

    Raises:
        InputError: it would run code, or it holds no tensors by name.
    """
    # torch goes by the name of a file: a renamed pickle is one for it only where it does not see the name
    is_renamed = path.suffix == ".safetensors"
    is_mapped = not is_renamed and zipfile.is_zipfile(path)
    try:
        with path.open("rb") as file:
            place = file if is_renamed else path
            value = torch.load(place, map_location="cpu", weights_only=True, mmap=is_mapped)
    except pickle.UnpicklingError as error:
        # torch's own message advises to read it without this care
        called = _CALLED.search(str(error))
        what = f"would call {called[1]}" if called else "is not one that torch has written"
        raise InputError(
            f"{shown(path)} holds more than tensors: it {what}. It is not read; look for its weights as "
            "safetensors."
        ) from error
    except Exception as error:  # torch's reader fails in many ways on what is no pickle
        raise InputError(f"{shown(path)} is damaged, or no file that torch has written.") from error
    leaves = _named(_leaves(value), path)
    tensors = {name: each for name, each in leaves.items() if isinstance(each, Tensor)}
    # checkpoints of a training hold more than the weights
    inner = {name: each for name, each in tensors.items() if name.startswith(_WEIGHTS)} or tensors
    if not inner:
        raise InputError(f"{shown(path)} holds no tensors by name.")
    names = {_LEARNED: str(leaves.get("name") or path.stem)}
    pairs = ((names.get(name, name.removeprefix(_WEIGHTS)), each) for name, each in inner.items())
    renamed = _named(pairs, path)
    _check_plain(renamed, path)
    return renamed, [name for name in leaves if name not in inner]


def _named(pairs: Iterable[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """What a file holds by name.

    Raises:
        InputError: two things have one name.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"{shown(path)} holds two things of the name {name[:80]!r}.")
        found[name] = value
    return found


def _check_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors can be written as they are, and that a small file does not ask for all memory.

    Raises:
        InputError: one of them cannot.
    """
    left = MOST_TIMES * path.stat().st_size
    for name, value in tensors.items():
        if name == "__metadata__" or is_torn(name):
            raise InputError(f"{shown(path)}: safetensors files hold no tensor of the name {name[:80]!r}.")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise InputError(f"{shown(path)}: tensor {name[:80]!r} is sparse, quantised or without values.")
        left -= value.numel() * value.element_size()
        if left < 0:
            raise InputError(f"{shown(path)}: its tensors are far larger than the file: it is damaged.")


def _leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """What nested dictionaries hold, by the names on the way.

    Raises:
        InputError: they are nested too deeply, or hold themselves.
    """
    if depth > MAX_DEPTH:
        raise InputError(f"The pickle nests dictionaries more than {MAX_DEPTH} deep.")
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, each in value.items():
        yield from _leaves(each, f"{name}.{key}" if name else str(key), depth + 1)


def _convert_file(source: Path, out: Path) -> Converted:
    tensors, left_out = read_pickle(source)
    # each its own memory: safetensors refuses tensors that share any
    save_tensors(out, {name: each.contiguous().clone() for name, each in tensors.items()}, {"format": "pt"})
    return Converted(1, len(tensors), tuple(left_out))


def _convert_into(file: Path, folder: Path) -> Converted | None:
    """Write one file of a folder into another; what is no pickle is copied."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_pickle(file):
        name = _renamed(file.name)
        # beside a pickle there may be the same weights as safetensors; a pickle of such a name is converted
        is_copied = name != file.name and (file.parent / name).exists()
        if not is_copied and (folder / name).exists():
            raise InputError(f"{shown(file.parent)} has two pickles that would both be called {name}.")
        return None if is_copied else _convert_file(file, folder / name)
    if ".bin.index." in file.name:
        index = read_json(file)
        if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
            raise InputError(f"{shown(file)} is damaged: it has no weight_map.")
        index["weight_map"] = {name: _renamed(str(shard)) for name, shard in index["weight_map"].items()}
        (folder / _renamed(file.name)).write_text(json.dumps(index, indent=2))
    else:
        shutil.copyfile(file, folder / file.name)
    return None


def _renamed(name: str) -> str:
    """The name under which the libraries look for the same weights as safetensors."""
    plain = re.sub(r"^pytorch_model\b", "model", name)
    if ".bin.index." in plain:
        return plain.replace(".bin.index.", ".safetensors.index.")
    return str(Path(plain).with_suffix(".safetensors"))
