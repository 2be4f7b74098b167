"""The store of a study in an object store or on another machine, by its URL."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._util.errors import InputError
from .._util.hashing import sha256_of_json
from .._util.text import reason, shown
from .cell import Cell
from .manifest import checked, reason_of
from .store import CELLS, FAILURES, MANIFEST, STUDY, Store

#: Field of a remote manifest: folder of the cell's files.
FILES = "files"


@dataclass(frozen=True)
class RemoteStore(Store):
    """Finished cells behind a URL that fsspec knows.

    Object stores rename no folders. So a cell's files are uploaded into a folder of their own, and the
    manifest, which names it, is written last. Where two upload the same cell, the later manifest counts, and
    both are whole.

    Attributes:
        folder: on this machine, for cells that are being made and those that were read.
        url: of the study.
    """

    url: str = ""

    @classmethod
    def at(cls, url: str) -> RemoteStore:
        """The store at a URL; what was read from it before is kept in the cache of this machine.

        Raises:
            InputError: it has no path, no package for such URLs is installed, or another user of this machine
                could change what is kept.
        """
        protocol, _, path = url.partition("://")
        if not (protocol and path.strip("/")):
            raise InputError(f"{url[:80]} names no place: write a path behind ://, as in s3://bucket/study.")
        url = url.rstrip("/")
        store = cls(_private_folder() / sha256_of_json(url)[:16], url)
        try:
            store.files  # noqa: B018  (raises where there is none)
        except (ImportError, ValueError) as error:
            raise InputError(f"No package for {url[:80]} is installed ({reason(error)}).") from error
        return store

    def begin(self) -> None:
        """Note that a study is run there.

        Raises:
            InputError: it cannot be written, or its bucket is missing.
        """
        try:
            self._check_bucket()
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.is_there():
                self._write(STUDY, {"schema_version": 1})
        except InputError:
            raise
        except Exception as error:  # each file system raises its own kinds
            raise InputError(f"Cannot write {self.url[:80]} ({reason(error)}).") from error

    def _check_bucket(self) -> None:
        """Refuse a bucket that is missing: clients would make one of a name that is mistyped.

        Raises:
            InputError: it is missing.
        """
        import fsspec  # noqa: PLC0415  (only for URLs)

        # "bucket/folder" of object stores; "/folder" of what has folders
        bucket = fsspec.core.url_to_fs(self.url)[1].partition("/")[0]
        if bucket and not self.files.exists(bucket):
            with suppress(FileNotFoundError):
                self.files.ls(bucket)  # tells of a server that does not answer, which looks the same above
            raise InputError(f"Cannot write {self.url[:80]}: there is no bucket {bucket[:80]}.")

    def is_there(self) -> bool:
        """Whether a study was run there."""
        return bool(self.files.exists(self._at(STUDY)))

    @property
    def files(self) -> Any:  # noqa: ANN401  (fsspec has no types)
        """The file system of the URL; fsspec keeps one for each."""
        import fsspec  # noqa: PLC0415  (only for URLs)

        return fsspec.core.url_to_fs(self.url)[0]

    def place(self, cell: Cell) -> str:
        """Where a cell lies, for people."""
        return self._at(CELLS, cell.kind, cell.id)

    def is_finished(self, cell: Cell) -> bool:
        """Whether the cell was made."""
        return bool(self.files.exists(self._at(CELLS, cell.kind, cell.id, MANIFEST)))

    def manifest(self, cell: Cell) -> dict[str, Any]:
        """How a finished cell came about.

        Raises:
            InputError: someone has changed it.
        """
        return self._manifest(self._at(CELLS, cell.kind, cell.id, MANIFEST))

    def _manifest(self, at: str) -> dict[str, Any]:
        found = checked(self._read(at), at)
        # the folder is one name, and part of a path
        if not str(found.get(FILES)).isalnum():
            raise InputError(f"{at} does not name the folder of the cell's files.")
        return found

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Of all finished cells, also those of other studies at the same URL; only what can be read."""
        for path in sorted(self.files.glob(self._at(CELLS, "*", "*", MANIFEST))):
            with suppress(InputError, OSError):
                yield self._manifest(path)

    def path(self, cell: Cell) -> Path:
        """Folder of the cell on this machine; a finished cell is fetched."""
        place = super().path(cell)
        if not (place / MANIFEST).is_file() and self.is_finished(cell):
            self._fetch(cell, place)
        return place

    def _fetch(self, cell: Cell, place: Path) -> None:
        record = self.manifest(cell)
        partial = self.folder / f"fetched-{uuid.uuid4().hex}"
        for name in record["sha256"]:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            source = self._at(CELLS, cell.kind, cell.id, record[FILES], name)
            with suppress(FileNotFoundError):  # verifying tells of it
                self.files.get_file(source, str(partial / name))
        (partial / MANIFEST).write_text(json.dumps(record), encoding="utf-8")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.rename(place)
        except OSError:  # another process fetched it
            shutil.rmtree(partial)

    def _take_place(self, partial: Path, cell: Cell) -> None:
        record = json.loads((partial / MANIFEST).read_text(encoding="utf-8"))
        record[FILES] = uuid.uuid4().hex
        for name in record["sha256"]:
            target = self._at(CELLS, cell.kind, cell.id, record[FILES], name)
            self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(partial / name), target)
        if not self.is_finished(cell):
            # a copy on this machine is of a cell that was removed, perhaps for damage
            shutil.rmtree(super().path(cell), ignore_errors=True)
        self._write(f"{CELLS}/{cell.kind}/{cell.id}/{MANIFEST}", record)

    def changed(self, cell: Cell) -> list[str]:
        """As for any store, of the files that are behind the URL now."""
        copy = super().path(cell)
        shutil.rmtree(copy, ignore_errors=True)
        found = super().changed(cell)
        if found:
            shutil.rmtree(copy, ignore_errors=True)  # nobody is to read it
        return found

    # -- failures ----------------------------------------------------------------------------------

    def fail(self, cell: Cell, why: str) -> None:
        """Note why a cell could not be made."""
        self._write(f"{FAILURES}/{cell.id}.json", {"id": cell.id, "title": cell.title, "reason": why})

    def failure(self, cell: Cell) -> str | None:
        """Why a cell could not be made; None if it was not tried or is there."""
        at = self._at(FAILURES, f"{cell.id}.json")
        if not self.files.exists(at) or self.is_finished(cell):
            return None
        try:
            return reason_of(self._read(at))
        except InputError:
            return reason_of(None)

    def forgive(self, cell: Cell) -> None:
        """Forget why a cell could not be made."""
        with suppress(FileNotFoundError):
            self.files.rm_file(self._at(FAILURES, f"{cell.id}.json"))

    # -- files -------------------------------------------------------------------------------------

    def _at(self, *parts: str) -> str:
        return "/".join((self.url, *parts))

    def _read(self, at: str) -> Any:  # noqa: ANN401  (JSON)
        try:
            return json.loads(self.files.cat_file(at))
        except (ValueError, RecursionError) as error:
            raise InputError(f"Cannot read {at}: it is not JSON.") from error

    def _write(self, name: str, value: Any) -> None:  # noqa: ANN401  (JSON)
        place = self._at(name)
        self.files.makedirs(place.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(place, json.dumps(value, indent=2).encode())


def _private_folder() -> Path:
    """Folder of temporary files that only this user can read and write.

    Raises:
        InputError: it cannot be made, or is another user's.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else ""  # systems without it have a folder for each user
    folder = Path(tempfile.gettempdir()) / f"sgrace-studies-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise InputError(f"Cannot write {shown(folder)}: {reason(error)}.") from error
    if user and (str(found.st_uid) != user or found.st_mode & 0o077):
        raise InputError(f"{shown(folder)} is not this user's alone; remove it, or set TMPDIR.")
    return folder
