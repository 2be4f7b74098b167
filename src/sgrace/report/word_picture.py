"""The picture of a concept's space: its words as one text encoder reads them (extra ``report``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..knowledge import ConceptWords
from ..metrics.plane import Plane
from ..models.word_space import WordSpace
from .plots import BLUE, GREY, ORANGE, PURPLE, RED, Dots, plane_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {
    "unrelated (protected)": GREY,
    "cooccurring (protected)": PURPLE,
    "near (protected)": BLUE,
    "left out": ORANGE,
    "related (erased)": RED,
}
#: Words of a group that are named; the names of all would hide each other.
N_NAMED = 8
#: Words of a group that spans the plane.
LEAST = 2


def word_picture(
    space: WordSpace, name: str, words: ConceptWords, left_out: Sequence[str], replacement: str | None
) -> Figure:
    """Each word a dot in the plane through the means of the related, near and unrelated words.

    The concept, its replacement and the words that are nearest to the concept have their names beside them.

    Args:
        space: of the text encoder.
        name: of the concept.
        words: of the concept.
        left_out: words that are neither erased nor protected.
        replacement: the candidate for the concept's place that is nearest to it.

    Raises:
        InputError: matplotlib is not installed.
    """
    own = (name, *(word for word in words.related if word != name))
    known = dict(
        zip(COLOURS, (words.unrelated, words.cooccurring, words.near, tuple(left_out), own), strict=True)
    )
    every = {word: None for group in known.values() for word in group}
    features = dict(zip(every, space.features(list(every)), strict=True))
    groups = {title: space.features(group) for title, group in known.items() if group}
    spanning = {
        title: groups[title]
        for title, group in known.items()
        if len(group) >= LEAST and title not in {"left out", "cooccurring (protected)"}
    }
    # a concept with a single word still lies somewhere
    plane = Plane(spanning if len(spanning) > 1 else groups)
    near = {word: float(features[word] @ features[name]) for word in every}
    drawn = {}
    for title, group in groups.items():
        named = sorted(known[title], key=lambda word: -near[word])[:N_NAMED]
        shown = {name, replacement, *named} if title != "unrelated (protected)" else {replacement, *named[:4]}
        labels = {number: word for number, word in enumerate(known[title]) if word in shown}
        drawn[title] = Dots(plane(group), COLOURS[title], is_cross=title == "left out", names=labels)
    taken = f", nearest candidate for its place {replacement!r}" if replacement else ""
    title = f"{name}{taken}: words in the text features of {space.encoder.name} ({words.source})"
    return plane_plot(title, drawn)
