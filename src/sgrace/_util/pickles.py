"""Pickles, which run code when they are read: known by name and content, and refused with the way out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .errors import InputError
from .text import shown

#: Endings of files that torch writes with pickle.
SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
#: First bytes of torch's files: a zip archive, and a bare pickle of protocol 2 or later.
_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, by its ending or, whatever it is called, by its first bytes."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors begin with a length of 8 bytes, which may be any, and the brace of a JSON object
    return start.startswith(_MAGIC) and not start.endswith(b"{")


def refuse_pickle(path: Path) -> None:
    """Check a file of weights before it is read.

    Raises:
        InputError: it is a pickle.
    """
    if is_pickle(path):
        raise InputError(
            f"{shown(path)} is a pickle, and reading one can run any code: `sgrace convert {shown(path)} -o "
            f"{path.stem}.safetensors` reads tensors only and writes a file that can be loaded."
        )


def refuse_folders_of_pickles(names: Iterable[str], where: str, way_out: str) -> None:
    """Check the files of a model whose weights could not be found.

    Args:
        names: of all files, with the folders that they are in.
        where: the model, for the error.
        way_out: what to do, as the end of a sentence.

    Raises:
        InputError: a folder holds weights as pickles only.
    """
    by_folder: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        by_folder.setdefault(str(path.parent), set()).add(path.suffix)
    for folder, suffixes in sorted(by_folder.items()):
        if suffixes & set(SUFFIXES) and ".safetensors" not in suffixes:
            place = where if folder == "." else f"The folder {folder} of {where}"
            raise InputError(
                f"{place} has weights as pickles only, and reading one can run any code: {way_out}."
            )
