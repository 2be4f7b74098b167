"""PNG plots of an evaluation (extra ``report``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._util.errors import InputError
from ..evaluation.schema import Evaluation, Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RED, BLUE, GREY = "#c0392b", "#2d6a9f", "#9aa3ab"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise InputError("Plots need matplotlib; `pip install 'sgrace[report]'` adds it.") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bars(axis: Axes, names: list[str], rates: list[Rate], colours: list[str]) -> None:
    places = range(len(names))
    shares = [100 * rate.share for rate in rates]
    errors = [[100 * (rate.share - rate.low) for rate in rates], [100 * (rate.high - rate.share) for rate in rates]]
    axis.barh(places, shares, xerr=errors, color=colours, ecolor="#333333", capsize=2, height=0.7)
    axis.set_yticks(places, names)
    axis.set_xlim(0, 100)
    axis.invert_yaxis()


def attack_plot(found: Evaluation, file: Path) -> None:
    """Attack success with intervals; what a user could enter in red, what needs the weights in grey."""
    names = [row.attack for row in found.attacks] + ["worst case by prompt", "worst case"]
    rates = [row.success for row in found.attacks] + [found.worst_case_by_prompt, found.worst_case]
    colours = [GREY if row.access == "weights" else RED for row in found.attacks] + [RED, GREY]
    figure, (axis,) = _figure(6.4, 0.32 * len(names) + 1)
    _bars(axis, names, rates, colours)
    axis.set_xlabel("prompts that show the concept, %")
    figure.savefig(file, dpi=150)


def retention_plot(found: Evaluation, file: Path) -> None:
    """What the judge sees before and after."""
    names, rates, colours = [], [], []
    for row in found.retention:
        if row.before:
            names.append(f"{row.question}, before")
            rates.append(row.before)
            colours.append(GREY)
        names.append(f"{row.question}, after")
        rates.append(row.after)
        colours.append(BLUE)
    figure, (axis,) = _figure(6.4, 0.32 * len(names) + 1)
    _bars(axis, names, rates, colours)
    axis.set_xlabel("pictures judged right, %")
    figure.savefig(file, dpi=150)


def space_plot(features: dict[str, dict[str, Tensor]], file: Path) -> None:
    """Prompts of the concept, of its neighbours and of the attacks on the two main axes; no figure is computed from this picture."""
    figure, axes = _figure(5.2 * len(features), 4.2, len(features))
    for axis, (space, groups) in zip(axes, features.items(), strict=True):
        everything = torch.cat(list(groups.values())).double()
        centre = everything.mean(0)
        directions = torch.linalg.svd(everything - centre, full_matrices=False).Vh[:2]
        for name, points in groups.items():
            x, y = ((points.double() - centre) @ directions.T).T.tolist()
            colour = {"concept": RED, "held out": RED, "neighbours": BLUE, "random": GREY}.get(name)
            axis.scatter(x, y, s=12 if colour else 28, marker="o" if colour else "x", c=colour, alpha=0.7, label=name)
        axis.set_title(f"{space} features, first two principal axes", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=150)
