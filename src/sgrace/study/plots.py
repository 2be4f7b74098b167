"""Plots of a study's page: what is kept, how long erasing takes, and what the samples of erasing cover."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from .lines import REFERENCES, Line, timed_alike
from .pace import brought_back, method_of
from .space import curves_of

#: A plot's area: left, width, bottom, height.
LEFT, WIDTH, BOTTOM, HEIGHT = 50.0, 410.0, 280.0, 260.0
#: Distance of labels beside the plot, one under the other.
LABEL = 14.0
BACK = "brought back by a prompt, %"

DotKind = Literal["", "reference", "reported"]


class Place(NamedTuple):
    """A dot of a plot: shares of its width and height."""

    title: str
    x: float
    y: float
    kind: DotKind = ""


class Dot(NamedTuple):
    """A dot in the picture, with the height of its label in the column beside it, and whose row it is."""

    title: str
    x: float
    y: float
    label_y: float
    kind: DotKind


class Tick(NamedTuple):
    """A value of the horizontal axis."""

    x: float
    text: str


class Plot(NamedTuple):
    """Dots with labels.

    Attributes:
        x, y: what the axes show; the vertical one is a share.
        ticks: of the horizontal axis.
        dots: from top to bottom.
        paths: lines that join dots of one kind, as points of SVG.
    """

    x: str
    y: str
    ticks: list[Tick]
    dots: list[Dot]
    paths: list[str]


def plots_of(lines: Sequence[Line]) -> list[Plot]:
    """The plots of a table, as far as there is something to show."""
    return [plot for plot in (kept_plot(lines), time_plot(lines), space_plot(lines)) if plot.dots]


def kept_plot(lines: Sequence[Line]) -> Plot:
    """What is brought back against what is kept."""
    places = [
        Place(line.title, line.kept, brought_back(line), _kind(line))
        for line in lines
        if line.kept is not None
    ]
    ticks = [Tick(_x(share / 100), str(share)) for share in (0, 25, 50, 75, 100)]
    return Plot("kept: withheld classes and the rest of the prompt, %", BACK, ticks, _dots(places), [])


def time_plot(lines: Sequence[Line]) -> Plot:
    """What is brought back against the seconds of erasing, on a scale of powers of ten.

    Rows of one method and preset with several settings, as of several lengths, are joined.
    """
    logs = {line.title: math.log10(seconds) for line, seconds in timed_alike(lines)}
    if len(logs) < 2:
        return Plot("", "", [], [], [])
    low = math.floor(min(logs.values()))
    high = math.floor(max(logs.values())) + 1
    places = [
        Place(line.title, (logs[line.title] - low) / (high - low), brought_back(line))
        for line in lines
        if line.title in logs
    ]
    methods: dict[str, list[Place]] = {}
    for place in sorted(places, key=lambda place: place.x):
        methods.setdefault(method_of(place.title), []).append(place)
    ticks = [Tick(_x((i - low) / (high - low)), f"{10.0**i:g}") for i in range(low, high + 1)]
    paths = [_path(own) for own in methods.values() if len(own) > 1]
    return Plot("seconds of erasing", BACK, ticks, _dots(places), paths)


def space_plot(lines: Sequence[Line]) -> Plot:
    """What growing numbers of training samples cover, on a scale of powers of two."""
    curves = curves_of(lines)
    if not curves:
        return Plot("", "", [], [], [])
    sizes = [math.log2(n) for _, curve in curves for n in curve.sizes]
    low = math.floor(min(sizes))
    high = math.floor(max(sizes)) + 1
    drawn = [
        [
            Place(title, (math.log2(n) - low) / (high - low), covered[0])
            for n, covered in zip(curve.sizes, curve.coverage, strict=True)
        ]
        for title, curve in curves
    ]
    ticks = [Tick(_x((i - low) / (high - low)), str(2**i)) for i in range(low, high + 1)]
    dots = _dots([places[-1] for places in drawn])
    return Plot("samples", "concept covered, over expected, %", ticks, dots, [_path(own) for own in drawn])


def _x(share: float) -> float:
    return LEFT + WIDTH * share


def _y(share: float) -> float:
    return BOTTOM - HEIGHT * share


def _path(places: Iterable[Place]) -> str:
    return " ".join(f"{_x(place.x):.1f},{_y(place.y):.1f}" for place in places)


def _dots(places: Iterable[Place]) -> list[Dot]:
    dots = []
    below = 0.0  # the last label
    for place in sorted(places, key=lambda place: -place.y):
        below = max(_y(place.y) + 4, below + LABEL)
        dots.append(Dot(place.title, _x(place.x), _y(place.y), below, place.kind))
    return dots


def _kind(line: Line) -> DotKind:
    if line.is_reported:
        return "reported"
    return "reference" if line.title in REFERENCES else ""
