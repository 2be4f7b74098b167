"""What every format of an export does alike: what is refused, where it is written, and its card."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, final

from torch import Tensor

from .._util.errors import InputError
from .._util.files import check_new_file, new_file
from .._util.folders import check_new_folder, new_folder, unfinished
from .._util.hashing import sha256
from .._util.hub import check_hub_id, hub_key, push
from .._util.tensors import save_tensors
from .._util.text import shown
from ..erasure import Erasure
from ..erasure.card import CARD, Loading, card, title
from ..models import DiffusionModel
from ._job import Job

SUFFIX = ".safetensors"


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: file or folder.
        files: in the folder, or the file itself.
        notes: what the user must know, a sentence each.
    """

    path: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


class Format(ABC):
    """One way to write a model; a format writes :meth:`write`, and :meth:`refusal` where it needs more."""

    #: As users write it, with underscores for hyphens.
    name: ClassVar[str]
    #: Name of the file in the folder, where the format is one file that may stand alone.
    file_name: ClassVar[str] = ""
    #: Whether it holds guidance and adapters too, which no other program reads.
    holds_everything: ClassVar[bool] = False

    @abstractmethod
    def write(self, job: Job, folder: Path) -> list[str]:
        """Write into a folder; return what the user must know, a sentence each."""

    @abstractmethod
    def loading(self, job: Job) -> list[Loading]:
        """How programs load it, one after the other."""

    def refusal(self, job: Job) -> str:
        """Why the format cannot hold this model, as one sentence; empty if it can."""
        del job
        return ""

    @final
    def of(
        self,
        erasures: Sequence[Erasure | Path],
        out: Path | None,
        base: DiffusionModel | str | None = None,
        *,
        push_to_hub: str | None = None,
        private: bool = False,
        **options: Any,  # noqa: ANN401  (of Job.of)
    ) -> Exported:
        """Write the model of erasures, or upload it; the arguments are those of the methods below."""
        if push_to_hub is not None:
            # cheap checks first: loading a model takes minutes
            check_hub_id(push_to_hub)
            hub_key()
            return self.push(Job.of(erasures, base, **options), push_to_hub, private=private)
        if out is None:
            raise InputError("Name where to write with --out, or a repository with --push-to-hub.")
        self._check_place(out)
        return self.export(Job.of(erasures, base, **options), out)

    @final
    def push(self, job: Job, repo_id: str, *, private: bool = False) -> Exported:
        """Write a model and upload it; nothing stays on this machine.

        Args:
            job: what is exported.
            repo_id: ``owner/name``; a repository that is not there is made.
            private: whether a new repository is.

        Raises:
            InputError: the format cannot hold the model, there is no key, or the hub refuses.
        """
        check_hub_id(repo_id)
        with TemporaryDirectory() as home:
            done = self.export(job, Path(home) / job.name)
            address = push(done.path, repo_id, private=private, message=title(job.recipes))
        return done._replace(notes=(*done.notes, f"Uploaded: {address}"))

    @final
    def export(self, job: Job, out: Path) -> Exported:
        """Write a model whole or not at all: a folder with a card, or a single file where the format has one.

        Args:
            job: what is exported.
            out: new folder; ``.safetensors`` for a single file.

        Raises:
            InputError: the format cannot hold the model, or the path cannot be written.
        """
        self._check_place(out)
        self._check(job)
        if out.suffix.lower() == SUFFIX:
            return self._export_file(job, out)
        with new_folder(out) as folder:
            notes = self.write(job, folder)
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            names = [file.relative_to(folder).as_posix() for file in files]
            digests = {name: sha256(folder / name) for name in names if name.endswith(SUFFIX)}
            text = card(job.recipes, self.loading(job), notes=notes, evaluated=job.evaluated, digests=digests)
            (folder / CARD).write_text(text, encoding="utf-8")
        return Exported(out, (CARD, *names), tuple(notes))

    def _export_file(self, job: Job, out: Path) -> Exported:
        """Write the one file of a format in the place of a folder."""
        with new_file(out) as partial, unfinished(out) as folder:
            notes = self.write(job, folder)
            if not (folder / self.file_name).is_file():
                raise InputError(f"{shown(out)} must be a folder: the erasure changes several networks.")
            (folder / self.file_name).replace(partial)
            # settings and tokenizers have no place in one file
            shutil.rmtree(folder.parent)
        return Exported(out, (out.name,), tuple(notes))

    def _check_place(self, out: Path) -> None:
        """Refuse a place where this format cannot be written.

        Raises:
            InputError: so it is.
        """
        if out.suffix.lower() != SUFFIX:
            check_new_folder(out)
        elif self.file_name:
            check_new_file(out)
        else:
            raise InputError(f"{shown(out)} must be a folder: this format is more than one file.")

    def _check(self, job: Job) -> None:
        """Refuse what no file can hold, and then what this format cannot.

        Raises:
            InputError: so it is.
        """
        if self.holds_everything:
            return
        if job.model.guidance is not None:
            raise InputError(
                f"{job.model.guidance.name} steers the sampling and changes no weights, so there is nothing "
                "to export; erase with a method that changes weights."
            )
        if any(erasure.adapter is not None for erasure in job.model.erasures):
            raise InputError(
                "This erasure leaves adapters that look at the prompt, which no other program loads; "
                "erase with a method or preset that changes weights."
            )
        if why := self.refusal(job):
            raise InputError(why)


def save(tensors: Mapping[str, Tensor], file: Path, job: Job) -> None:
    """Write tensors with the facts of the export in the header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # each its own memory: tied weights share theirs, which safetensors refuses
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_tensors(file, own, job.facts)
