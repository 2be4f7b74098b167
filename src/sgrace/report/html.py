"""A self-contained page of one evaluation, without scripts and external files."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from torch import Tensor

from .._util.files import write_text_atomically
from .._util.tensors import read_tensors
from ..evaluation.evaluate import EVALUATION
from ..evaluation.schema import Evaluation
from . import words
from .gallery import gallery
from .plots import attack_plot, can_plot, retention_plot, space_plot


class Plot(NamedTuple):
    """One plot as data, for light and dark pages."""

    light: str
    dark: str


def write_report(folder: Path) -> Path:
    """Write ``report.html`` beside the ``evaluation.json`` of a folder, and plots if matplotlib is installed.

    The page begins with the verdict in words. For each prompt it shows the original's image and the one that
    each attack stored. What the detector flags is blurred unless the concept is an object or a style.

    Raises:
        InputError: the folder holds no evaluation, or an attack set of it is damaged.
    """
    found = Evaluation.from_file(folder / EVALUATION)
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = pages.from_string(_resource("page.html")).render(
        e=found,
        w=words,
        css=Markup(_resource("style.css")),  # noqa: S704  (our own file)
        gold=any(row.gold for row in found.attacks) or any(row.gold for row in found.retention),
        gallery=gallery(folder, found),
        space=_plots(folder, found) if can_plot() else None,
        can_plot=can_plot(),
    )
    out = folder / "report.html"
    write_text_atomically(out, text)
    return out


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plots(folder: Path, found: Evaluation) -> Plot | None:
    """Write the plots as files; the one of the concept space stands on the page too."""
    attack_plot(found, folder / "attacks.png")
    if found.retention:
        retention_plot(found, folder / "retention.png")
    stored = folder / "concept_space.safetensors"
    if not stored.exists():
        return None
    features: dict[str, dict[str, Tensor]] = {}
    for name, value in read_tensors(stored)[0].items():
        space, _, group = name.partition("/")
        features.setdefault(space, {})[group] = value
    space_plot(features, folder / "concept_space.png")
    dark = io.BytesIO()
    space_plot(features, dark, dark=True)
    return Plot(_data((folder / "concept_space.png").read_bytes()), _data(dark.getvalue()))


def _data(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
