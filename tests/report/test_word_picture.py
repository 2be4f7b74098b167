"""The picture of a concept's words, and the plane in which it is drawn."""

from __future__ import annotations

import pytest
import torch

from sgrace.knowledge import ConceptWords
from sgrace.metrics.plane import Plane, nearest_to_own
from sgrace.models.word_space import WordSpace
from sgrace.report.word_picture import word_picture

from ..families import shared


@pytest.mark.parametrize("n_groups", [2, 3])
def test_the_plane_keeps_the_distances_of_the_means(n_groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    groups = {str(i): torch.randn(9, 7, generator=generator) + 9 * torch.eye(7)[i] for i in range(n_groups)}
    plane = Plane(groups)
    places = {name: plane(own) for name, own in groups.items()}
    means = torch.stack([own.double().mean(0) for own in groups.values()])
    torch.testing.assert_close(torch.pdist(plane(means)), torch.pdist(means))
    torch.testing.assert_close(plane.directions @ plane.directions.T, torch.eye(2, dtype=torch.float64))
    assert nearest_to_own(places) == [1.0] * n_groups
    assert sum(nearest_to_own({"a": places["0"], "b": places["0"]})) == 1.0


@pytest.mark.parametrize("near", [("mosque", "temple"), ()])
def test_every_word_is_a_dot_and_the_concept_and_its_replacement_are_named(near: tuple[str, ...]) -> None:
    words = ConceptWords(related=("church", "chapel"), near=near, unrelated=("dog", "tree", "boat"))
    space = WordSpace(shared("stable_diffusion"))
    figure = word_picture(space, "church", words, ["abbey"], "tree")
    (axis,) = figure.axes
    dots = {str(group.get_label()): len(group.get_offsets()) for group in axis.collections}  # type: ignore[arg-type]
    assert dots == {
        "unrelated (protected)": 3,
        **({"near (protected)": 2} if near else {}),
        "left out": 1,
        "related (erased)": 2,
    }
    assert {"church", "tree", "abbey"} <= {text.get_text() for text in axis.texts}
    assert "nearest candidate for its place 'tree'" in axis.get_title()
