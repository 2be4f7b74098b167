"""A self-contained page of one evaluation, without scripts and external files."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from .._util.files import atomic_file
from .._util.tensors import read_tensors
from ..evaluation.evaluate import EVALUATION
from ..evaluation.schema import Evaluation
from .gallery import gallery, pairs
from .pages import write_page
from .plots import attack_plot, can_plot, retention_plot, space_plot
from .sentence import summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # an extra

DPI = 150


class Plot(NamedTuple):
    """One plot as data, for light and dark pages."""

    light: str
    dark: str


def write_report(folder: Path) -> Path:
    """Write ``report.html`` beside the ``evaluation.json`` of a folder, and plots if matplotlib is installed.

    The page begins with one sentence: is it safe, what broke, and what that rests on. Then come one row for
    each attack with the images that it kept, and one for each question with images before and after erasing.
    What the detector flags is blurred unless the concept is an object or a style.

    Raises:
        InputError: the folder holds no evaluation, or an attack set of it is damaged.
    """
    found = Evaluation.from_file(folder / EVALUATION)
    return write_page(
        folder / "report.html",
        "page.html",
        e=found,
        summary=summary(found),
        gold=any(row.gold for row in found.attacks) or any(row.gold for row in found.retention),
        gallery=gallery(folder, found),
        shown=pairs(folder, found),
        space=_plots(folder, found) if can_plot() else None,
        can_plot=can_plot(),
    )


def _plots(folder: Path, found: Evaluation) -> Plot | None:
    """Write the plots as files; the one of the concept space stands on the page too."""
    _write(folder / "attacks.png", _png(attack_plot(found)))
    if found.retention:
        _write(folder / "retention.png", _png(retention_plot(found)))
    stored = folder / "concept_space.safetensors"
    if not stored.exists():
        return None
    features: dict[str, dict[str, Tensor]] = {}
    for name, value in read_tensors(stored)[0].items():
        space, _, group = name.partition("/")
        features.setdefault(space, {})[group] = value
    light = _png(space_plot(features, dark=False))
    dark = _png(space_plot(features, dark=True))
    _write(folder / "concept_space.png", light)
    return Plot(_data(light), _data(dark))


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, dpi=DPI, format="png")
    return content.getvalue()


def _write(file: Path, content: bytes) -> None:
    with atomic_file(file) as partial:
        partial.write_bytes(content)


def _data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
