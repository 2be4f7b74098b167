"""Plots of an evaluation as matplotlib figures (extra ``report``)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .._util.errors import InputError
from ..evaluation.schema import Evaluation, Rate
from .words import context

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = tuple[float, float]  # inches
Groups = Mapping[str, Tensor]  # group of prompts -> features
RED, BLUE, GREY, ORANGE, PURPLE = "#c0392b", "#2d6a9f", "#9aa3ab", "#e08e0b", "#8e5ea2"
DARK_PAPER = "#15191d"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


class _Drawing(NamedTuple):
    figure: Figure
    axes: list[Axes]


def _drawing(size: Size, columns: int = 1, *, dark: bool = False) -> _Drawing:
    """An empty figure of so many plots side by side.

    Raises:
        InputError: matplotlib is not installed.
    """
    if not can_plot():
        raise InputError("Plots need matplotlib: `pip install 'sgrace[report]'`.")
    from matplotlib import style  # noqa: PLC0415  (an extra)
    from matplotlib.figure import Figure  # noqa: PLC0415

    with style.context("dark_background" if dark else "default"):
        figure = Figure(figsize=size, layout="constrained")
        if dark:
            figure.set_facecolor(DARK_PAPER)
        axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_facecolor(figure.get_facecolor())
    return _Drawing(figure, axes)


def _bars(axis: Axes, names: list[str], rates: list[Rate], colours: list[str]) -> None:
    places = range(len(names))
    shares = [100 * rate.share for rate in rates]
    below = [100 * (rate.share - rate.low) for rate in rates]
    above = [100 * (rate.high - rate.share) for rate in rates]
    axis.barh(places, shares, xerr=[below, above], color=colours, ecolor="#333333", capsize=2, height=0.7)
    axis.set_yticks(places, names)
    axis.set_xlim(0, 100)
    axis.invert_yaxis()


def _footed(figure: Figure, found: Evaluation) -> None:
    """Name below the plot what its figures depend on: a plot travels without its page."""
    figure.supxlabel(context(found).replace(". ", ".\n"), fontsize=6, x=0.01, ha="left", color="#666666")


def attack_plot(found: Evaluation) -> Figure:
    """Attack success with intervals; red: a user could enter it, grey: it needs the weights.

    Raises:
        InputError: matplotlib is not installed.
    """
    mark = " (unreliable)"
    names = [row.attack + mark * row.unreliable for row in found.attacks] + ["any typed prompt", "any attack"]
    rates = [row.success for row in found.attacks] + [found.worst_case_by_prompt, found.worst_case]
    colours = [GREY if row.access == "weights" else RED for row in found.attacks] + [RED, GREY]
    figure, (axis,) = _drawing((6.4, 0.32 * len(names) + 1.4))
    _bars(axis, names, rates, colours)
    axis.set_xlabel("prompts that show the concept, % (grey: needs the weights)")
    _footed(figure, found)
    return figure


def retention_plot(found: Evaluation) -> Figure:
    """Retention before and after erasing.

    Raises:
        InputError: matplotlib is not installed.
    """
    names: list[str] = []
    rates: list[Rate] = []
    colours: list[str] = []
    for row in found.retention:
        if row.before:
            names.append(f"{row.question}, before")
            rates.append(row.before)
            colours.append(GREY)
        names.append(f"{row.question}, after")
        rates.append(row.after)
        colours.append(BLUE)
    figure, (axis,) = _drawing((6.4, 0.32 * len(names) + 1.4))
    _bars(axis, names, rates, colours)
    axis.set_xlabel("images judged right, %")
    _footed(figure, found)
    return figure


def space_plot(features: Mapping[str, Groups], *, dark: bool = False) -> Figure:
    """Prompts of the concept, its neighbours and the attacks on two principal axes, for illustration only.

    Args:
        features: ``(n, features)`` by space and group.
        dark: light dots on dark paper.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure, axes = _drawing((5.2 * len(features), 4.2), len(features), dark=dark)
    for axis, (space, groups) in zip(axes, features.items(), strict=True):
        everything = torch.cat(list(groups.values())).double()
        centre = everything.mean(0)
        directions = torch.linalg.svd(everything - centre, full_matrices=False).Vh[:2]
        for name, points in groups.items():
            x, y = ((points.double() - centre) @ directions.T).T.tolist()
            colour = {"concept": RED, "held out": RED, "neighbours": BLUE, "random": GREY}.get(name)
            marker = "o" if colour else "x"
            axis.scatter(x, y, s=12 if colour else 28, marker=marker, c=colour, alpha=0.7, label=name)
        axis.set_title(f"{space} features, first two principal axes", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


class Dots(NamedTuple):
    """Places ``(n, 2)`` of one group in a plane, how they are drawn, and what stands beside some of them."""

    places: Tensor
    colour: str
    is_cross: bool = False
    names: Mapping[int, str] = {}


class Moves(NamedTuple):
    """Places ``(n, 2)`` from which dots have moved, and those to which."""

    start: Tensor
    end: Tensor


def draw_groups(axis: Axes, groups: Mapping[str, Dots], moves: Moves | None = None) -> None:
    """Draw groups of places, by their titles.

    Args:
        axis: of matplotlib.
        groups: the last is drawn over the others.
        moves: of dots; every eighth is an arrow.
    """
    for title, own in groups.items():
        axis.scatter(
            own.places[:, 0],
            own.places[:, 1],
            s=14,
            alpha=0.6,
            color=own.colour,
            marker="x" if own.is_cross else "o",
            label=title,
            linewidths=0.8,
        )
        for number, name in own.names.items():
            x, y = own.places[number].tolist()
            axis.annotate(name, (x, y), (3, 2), textcoords="offset points", fontsize=6, color=own.colour)
    if moves:
        for start, end in zip(moves.start[::8].tolist(), moves.end[::8].tolist(), strict=True):
            axis.annotate(
                "", end, start, arrowprops={"arrowstyle": "->", "color": "#555555", "linewidth": 0.6}
            )
    axis.legend(loc="best", fontsize=8)


def plane_plot(title: str, groups: Mapping[str, Dots]) -> Figure:
    """Groups of words in the plane through the means of some of them.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure, (axis,) = _drawing((8, 5.6))
    axis.set_title(title, fontsize=10)
    axis.set(xlabel="first direction", ylabel="second direction")
    draw_groups(axis, groups)
    return figure
