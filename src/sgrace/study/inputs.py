"""What the cells of a study read: models, and files with their digests."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from .._util import registry
from .._util.hashing import sha256, sha256_of_files
from .._util.text import check_regular_file
from ..concept import Concept
from ..models.origin import exists
from ..testbeds.base import Testbed

#: A plan asks for the same plug-ins again and again.
load = functools.cache(registry.load)


@functools.cache
def testbed_of(model: str) -> Testbed | None:
    """The testbed that brings a model of this name, if any."""
    return load("testbeds", model)() if model in registry.names("testbeds") else None


def model_title(name: str) -> str:
    """A model as tables name it: a whole path would differ between machines."""
    return Path(name).name if Path(name).is_absolute() else name


@functools.cache
def model_sha256(name: str) -> str:
    """Digest of the files of a model, which need not be loaded; of a hub id, its name alone."""
    testbed = testbed_of(name)
    places = testbed.folders() if testbed else (Path(name),)
    files = [file for place in places for file in _files_in(place)]
    return sha256_of_files(files) if files else name


@functools.cache
def gold_sha256(name: str, concept: Concept) -> str:
    """Digest of the weights of a model that was trained without a concept."""
    testbed = testbed_of(name)
    gold = testbed.gold(concept) if testbed else None
    return sha256_of_files(gold.rglob("*.safetensors")) if gold else ""


@functools.cache
def place_sha256(value: str) -> str | None:
    """Digest of the file or folder that a setting names by its whole path; None where it names none."""
    files = _files_in(Path(value)) if Path(value).is_absolute() else []
    return sha256_of_files(files) if files else None


def digest(field: Literal["prompts", "words"], file: Path) -> dict[str, str]:
    """The digest of a file and where it lies, as a configuration has them."""
    check_regular_file(file, "a prompt table" if field == "prompts" else "a word file")
    return {field: sha256(file), f"{field}_file": str(file)}


def _files_in(place: Path) -> list[Path]:
    """The file itself, or all files in a folder."""
    if not exists(place):
        return []
    return [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
