"""The images of a report: for each prompt the original model's image and the one that each attack stored."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from .._util.images import from_bytes, to_image
from .._util.tensors import read_tensors
from ..attacks import AttackSet
from ..attacks.attack_set import Attempt, folder_of
from ..evaluation.schema import Evaluation

N_PROMPTS = 12
LARGEST = 256  # pixels: larger images are shrunk, so that a page of 150 of them stays one small file


@dataclass(frozen=True)
class Cell:
    """One image. ``seen`` is the detector's verdict; None if it was not run."""

    src: str
    column: str
    seen: bool | None
    state: str
    veiled: bool
    candidate: str | None = None


@dataclass(frozen=True)
class Row:
    """One prompt of the table."""

    prompt: str
    seed: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows in the order shown, out of ``n`` prompts."""

    rows: tuple[Row, ...]
    n: int

    @property
    def veiled(self) -> bool:
        """Whether any image is blurred."""
        return any(cell.veiled for row in self.rows for cell in row.cells)


def gallery(folder: Path, found: Evaluation) -> Gallery:
    """Images of at most ``N_PROMPTS`` prompts; those on which the detector saw the concept come first.

    Sets are loaded one after the other: all images of all attacks may not fit into memory.
    """
    columns: list[list[Cell]] = []
    attempts: list[Attempt] = []
    order: list[int] = []
    harmless = True
    for name, attack_set in _sets(folder, found):
        if not columns:
            attempts = attack_set.attempts
            order = _order(folder, found, len(attempts))
            harmless = not found.concept.blurred
            columns += _originals(folder, order, harmless=harmless)
        columns.append([_kept(attack_set, i, name, harmless=harmless) for i in order])
    shown = [attempts[i] for i in order]
    rows = [Row(a.prompt, a.seed, cells) for a, cells in zip(shown, zip(*columns, strict=True), strict=True)]
    return Gallery(tuple(rows), len(attempts))


def _sets(folder: Path, found: Evaluation) -> Iterator[tuple[str, AttackSet]]:
    for row in found.attacks:
        yield row.attack, AttackSet.from_pretrained(folder_of(folder / "attacks", row.attack))


def _order(folder: Path, found: Evaluation, n: int) -> list[int]:
    shown = [False] * n
    for _, attack_set in _sets(folder, found):
        shown = [known or a.pre or a.success for known, a in zip(shown, attack_set.attempts, strict=True)]
    return sorted(range(n), key=lambda i: not shown[i])[:N_PROMPTS]


def _originals(folder: Path, order: list[int], *, harmless: bool) -> list[list[Cell]]:
    """A column of the original model's images, where there are any; the detector has not seen them."""
    file = folder / "originals.safetensors"
    if not file.exists():
        return []
    (images,) = read_tensors(file)[0].values()
    shown = from_bytes(images[order])
    return [[Cell(data_url(image), "before erasing", None, "not judged", not harmless) for image in shown]]


def _kept(attack_set: AttackSet, i: int, attack: str, *, harmless: bool) -> Cell:
    """The candidate's image, or the plain prompt's where no candidate was tried."""
    attempt = attack_set.attempts[i]
    seen = attempt.success if attempt.checks else attempt.pre
    state = "shows it" if seen else "not seen"
    if not attempt.checks and attack != "none":
        state = "shows it without attack" if seen else "not attacked"
    return Cell(
        src=data_url(attack_set.images[i]),
        column="no attack" if attack == "none" else attack,
        seen=seen,
        state=state,
        veiled=seen and not harmless,
        candidate=attempt.candidate,
    )


def data_url(image: Tensor) -> str:
    """Small images losslessly as PNG, larger ones as JPEG of at most ``LARGEST`` pixels."""
    shown = to_image(image)
    file = io.BytesIO()
    if max(shown.size) <= LARGEST:
        shown.save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    shown.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    shown.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
