"""What a page takes away: the erasure, an export of the safe model, the report."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from .._util import registry
from .._util.errors import InputError
from .._util.files import new_file
from ..erasure import Erasure
from ..models import DiffusionModel

#: What a page may ask for beside the formats of an export.
ERASURE = "erasure"
REPORT = "report"
#: What each is, in words; formats of other packages are known by their names.
LABELS = {
    ERASURE: "The erasure and its recipe",
    REPORT: "The report",
    "diffusers": "The safe model for diffusers",
    "text-encoder": "The changed text encoder for transformers",
    "single-file": "One checkpoint in the original layout",
    "comfyui": "Files for ComfyUI",
    "a1111": "A checkpoint for AUTOMATIC1111",
    "lora": "The change as a LoRA",
    "unet": "The changed denoiser for diffusers",
}


class Packed(NamedTuple):
    """A file to take away.

    Attributes:
        path: on the server.
        name: for the browser.
        notes: what whoever takes it must know, a sentence each.
    """

    path: Path
    name: str
    notes: tuple[str, ...] = ()


def kinds() -> list[str]:
    """Everything that can be asked for."""
    formats = [name.replace("_", "-") for name in registry.names("export")]
    return list(dict.fromkeys((ERASURE, REPORT, *formats)))


def pack(kind: str, erasure: Erasure, original: DiffusionModel, report: Path | None, folder: Path) -> Packed:
    """Make a file of what is asked for.

    Args:
        kind: of :func:`kinds`.
        erasure: what was changed.
        original: the model before it.
        report: the page of its evaluation, if there is one.
        folder: the file lies there.

    Raises:
        InputError: there is no report yet, or the format cannot hold the model.
    """
    name = f"without-{slug(erasure)}-{kind}"
    if kind == REPORT:
        if report is None:
            raise InputError("There is no report yet; make one first.")
        return Packed(report, f"{name}.html")
    path = folder / f"{name}.zip"
    path.unlink(missing_ok=True)
    notes: tuple[str, ...] = ()
    with TemporaryDirectory(dir=folder) as home:
        made = Path(home) / name
        if kind == ERASURE:
            erasure.save_pretrained(made)
        else:
            notes = erasure.export(made, kind, base=original).notes
        with new_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(each for each in made.rglob("*") if each.is_file()):
                archive.write(file, file.relative_to(home).as_posix())
    return Packed(path, path.name, notes)


def slug(erasure: Erasure) -> str:
    """The concepts' names in letters, digits and hyphens: what a typed name may put into a file's name."""
    names = " ".join(concept.name for concept in erasure.recipe.concepts)
    return re.sub(r"[^a-z0-9]+", "-", names.lower()).strip("-")[:40].strip("-") or "concept"
