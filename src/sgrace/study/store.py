"""The folder of a study: finished cells, and failures. It is the study's only memory."""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from .._util.errors import InputError
from .._util.files import write_json
from .._util.folders import check_new_folder
from .._util.hashing import sha256
from .._util.places import hidden
from .._util.provenance import peak_memory_mb, versions
from .._util.text import read_json, reason, shown
from .cell import Cell, id_of
from .manifest import checked, reason_of

STUDY, MANIFEST = "study.json", "cell.json"
CELLS, FAILURES, PARTIAL = "cells", "failures", "partial"


@dataclass(frozen=True)
class Store:
    """Finished cells as folders, whose manifest is written last.

    Attributes:
        folder: of the study.
    """

    folder: Path

    def begin(self) -> None:
        """Make the folder, if it is missing.

        Raises:
            InputError: it holds something else, or cannot be written.
        """
        if self.is_there():
            return
        self.check_free()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / STUDY, {"schema_version": 1})
        except OSError as error:
            raise InputError(f"Cannot write {shown(self.folder)}: {reason(error)}.") from error

    def check_free(self) -> None:
        """Check that a study can begin in the folder, or is just beginning there.

        Raises:
            InputError: it holds something else, or cannot be written.
        """
        # what a process leaves that is killed while it begins; another may be about to write the same file
        partial = hidden(self.folder / STUDY, "*.partial").name
        names = [file.name for file in self.folder.glob("*")] if self.folder.is_dir() else []
        if not names or not (STUDY in names or all(fnmatch(name, partial) for name in names)):
            check_new_folder(self.folder)

    def is_there(self) -> bool:
        """Whether a study was run in the folder."""
        return (self.folder / STUDY).is_file()

    def path(self, cell: Cell) -> Path:
        """Folder of a finished cell."""
        return self.folder / CELLS / cell.kind / cell.id

    def place(self, cell: Cell) -> str:
        """Where a cell lies, for people."""
        return str(self.path(cell))

    def is_finished(self, cell: Cell) -> bool:
        """Whether the cell was made."""
        return (self.path(cell) / MANIFEST).is_file()

    def manifest(self, cell: Cell) -> dict[str, Any]:
        """How a finished cell came about.

        Raises:
            InputError: someone has changed it.
        """
        file = self.path(cell) / MANIFEST
        return checked(read_json(file), shown(file))

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Of all finished cells, also those of other studies in the same folder; only what can be read."""
        for file in sorted((self.folder / CELLS).glob(f"*/*/{MANIFEST}")):
            with suppress(InputError):
                yield checked(read_json(file), shown(file))

    @contextmanager
    def making(self, cell: Cell) -> Iterator[Path]:
        """A folder to fill; it becomes the cell's only when the block ends well.

        Two that make the same cell at once do not meet: the first that is ready counts.
        """
        self._remove_orphans()
        partial = self.folder / PARTIAL / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        started = time.monotonic()
        try:
            yield partial
            write_json(partial / MANIFEST, self._record(cell, partial, time.monotonic() - started))
            self._take_place(partial, cell)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self.forgive(cell)

    def _take_place(self, partial: Path, cell: Cell) -> None:
        place = self.path(cell)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.rename(place)
        except OSError:
            if (place / MANIFEST).is_file():
                return  # another process was first
            shutil.rmtree(place, ignore_errors=True)  # without a manifest: someone has changed it by hand
            partial.rename(place)

    def _record(self, cell: Cell, folder: Path, seconds: float) -> dict[str, Any]:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return {
            "id": cell.id,
            "kind": cell.kind,
            "title": cell.title,
            "config": cell.config,
            "needs": {name: each.id for name, each in cell.needs.items()},
            "sha256": {str(file.relative_to(folder)): sha256(file) for file in files},
            "bytes": sum(file.stat().st_size for file in files),
            "seconds": round(seconds, 1),
            # of the process so far: it may have made larger cells before
            "peak_memory_mb": peak_memory_mb(),
            "machine": socket.gethostname(),
            "versions": versions(),
        }

    def _remove_orphans(self) -> None:
        """Remove what processes of this machine left that are no more."""
        start = f"{socket.gethostname()}-"
        for folder in (self.folder / PARTIAL).glob(f"{start}*"):
            pid = folder.name.removeprefix(start).split("-")[0]
            if pid.isdigit() and not _is_alive(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)

    # -- failures ----------------------------------------------------------------------------------

    def fail(self, cell: Cell, why: str) -> None:
        """Note why a cell could not be made."""
        self._failure(cell).parent.mkdir(exist_ok=True)
        write_json(self._failure(cell), {"id": cell.id, "title": cell.title, "reason": why})

    def failure(self, cell: Cell) -> str | None:
        """Why a cell could not be made; None if it was not tried or is there."""
        file = self._failure(cell)
        if not file.is_file() or self.is_finished(cell):
            return None
        try:
            return reason_of(read_json(file))
        except InputError:
            return reason_of(None)

    def forgive(self, cell: Cell) -> None:
        """Forget why a cell could not be made."""
        self._failure(cell).unlink(missing_ok=True)

    def _failure(self, cell: Cell) -> Path:
        return self.folder / FAILURES / f"{cell.id}.json"

    # -- checks ------------------------------------------------------------------------------------

    def changed(self, cell: Cell) -> list[str]:
        """Names of files of a finished cell that are not those that were written."""
        try:
            folder, record = self.path(cell), self.manifest(cell)
        except InputError:
            return [MANIFEST]
        known = record["sha256"]
        same = id_of(record["kind"], record["config"], record["needs"]) == record["id"] == cell.id
        wrong = [] if same else [MANIFEST]
        there = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} - {MANIFEST}
        wrong += sorted(there ^ set(known))
        return wrong + [name for name in sorted(there & set(known)) if sha256(folder / name) != known[name]]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
