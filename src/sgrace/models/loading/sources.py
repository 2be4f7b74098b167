"""Sources of weights: a file, a folder, or a place in a repository of the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..._util.errors import InputError
from ..._util.pickles import SUFFIXES, is_pickle, refuse_pickle
from ..._util.tensors import is_finite, stored
from ..._util.tensors import read_tensors as of_file
from ..._util.text import check_regular_file, shown
from ..families._pipelines import reason
from ..origin import exists

_HUB = re.compile(r"(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]+))?(:(?P<path>[\w ./-]+))?")


#: Endings of files; the name of a folder may have a dot too.
_FILES = (".safetensors", *SUFFIXES)


class Source(NamedTuple):
    """Where weights are.

    Attributes:
        name: as it was given.
        local: file or folder; None for the hub.
        repo: id of a repository of the hub.
        revision: of the repository.
        path: sub-folder or file inside it.
    """

    name: str
    local: Path | None = None
    repo: str = ""
    revision: str | None = None
    path: str = ""

    @classmethod
    def parse(cls, name: str) -> Source:
        """A source as it is given: ``FILE``, ``FOLDER`` or ``HUB_ID[@REVISION][:PATH]``.

        Raises:
            InputError: it is none of them, or a pickle of the hub.
        """
        if exists(name):
            return cls(name, Path(name))
        found = _HUB.fullmatch(name)
        if found is None or (name.endswith(_FILES) and not found["path"]):
            raise InputError(
                f"There is no file or folder {shown(Path(name))}, and it is no hub id such as owner/name or "
                "owner/name:folder."
            )
        return cls(name, None, found["repo"], found["revision"], found["path"] or "")

    @property
    def is_model(self) -> bool:
        """Whether it is a folder with a whole network and its config, not a file of weights."""
        return self.local.is_dir() if self.local is not None else not self.path.endswith(_FILES)

    def file(self, default: str = "") -> Path:
        """The safetensors file, downloaded from the hub where it must be.

        Args:
            default: name of the file in a folder or repository.

        Raises:
            InputError: there is none, it is a pickle, or it cannot be downloaded.
        """
        if self.local is not None:
            return checked(_in_folder(self.local, default) if self.local.is_dir() else self.local)
        path = f"{self.path}/{default}".lstrip("/") if self.is_model else self.path
        if path.endswith(SUFFIXES):
            raise InputError(
                f"{self.name} is a pickle, and reading one can run any code: download it, and use `sgrace "
                "convert`."
            )
        return checked(self._downloaded(path))

    def _downloaded(self, path: str) -> Path:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415  (only for the hub)

        try:
            return Path(hf_hub_download(self.repo, path, revision=self.revision))
        except Exception as error:  # the client raises many kinds of its own
            raise InputError(f"Cannot download {path!r} of {self.repo!r} ({reason(error)}).") from error


def checked(path: Path) -> Path:
    """The same path, of a file that may be read as safetensors.

    Raises:
        InputError: it is not there, or it is a pickle.
    """
    check_regular_file(path, "a file of weights")
    refuse_pickle(path)
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file of weights.

    Raises:
        InputError: it is none, or the weights are no finite floating-point numbers.
    """
    stored(checked(path))
    tensors, _ = of_file(path)
    for name, value in tensors.items():
        if not is_finite(value):
            raise InputError(f"{shown(path)}: tensor {name[:80]!r} holds NaN or infinity.")
    return tensors


def _in_folder(folder: Path, default: str) -> Path:
    """The one safetensors file of a folder, or the one of the usual name.

    Raises:
        InputError: there is none, or several of other names.
    """
    found = sorted(folder.glob("*.safetensors")) or [
        file for file in sorted(folder.iterdir()) if file.is_file() and is_pickle(file)
    ]
    usual = [file for file in found if file.name == default]
    if len(usual or found) != 1:
        raise InputError(f"{shown(folder)} has {len(found)} files of weights; name the file itself.")
    return (usual or found)[0]
