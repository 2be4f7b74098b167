"""DES: each of its terms against the formula, the targets, what training does, cost."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.des import DES, keep_loss, targets, turned
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "4", "batch": "3", "n_prompts": "6", "lr": "1e-2"}


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_targets_and_terms_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    unsafe, safe, shift = (torch.randn(n, 9, generator=generator) for n in (4, 6, 4))
    directions = F.normalize(shift, dim=-1)
    found = targets(unsafe, safe, directions, 2.5)
    for row, target, direction in zip(unsafe, found, directions, strict=True):
        least = min(safe, key=lambda vector, row=row: cosine(row, vector))
        torch.testing.assert_close(target, least - 2.5 * direction)
    expected = sum(1 - cosine(a, b) for a, b in zip(unsafe, found, strict=True)) / 4
    assert turned(unsafe, found).item() == pytest.approx(expected, abs=1e-5)
    now, before = unsafe, safe[:4]
    expected = sum((1 - cosine(n, b)) + (1 - cosine(n + s, b)) for n, b, s in zip(now, before, shift, strict=True)) / 4
    assert keep_loss(now, before, shift).item() == pytest.approx(expected, abs=1e-5)


def test_kept_vectors_along_the_direction_weigh_less() -> None:
    direction = torch.tensor([[1.0, 0.0]])
    along, across = (keep_loss(x, x, 3 * direction).item() for x in (torch.tensor([[2.0, 0.1]]), torch.tensor([[0.1, 2.0]])))
    assert along < 0.01
    assert across > 0.3


def test_the_name_comes_to_say_nothing_and_the_rest_stays(model: StableDiffusion, words: Knowledge) -> None:
    settings = {"n_prompts": "16", "batch": "8", "iterations": "100", "lr": "3e-3", "keep_weight": "0.7", "strength": "0"}
    safe = DES.preset(None, "object", settings).erase(model, [CHURCH], [words]).apply(model)

    def states(of: StableDiffusion, text: str) -> torch.Tensor:
        return of.encode(of.tokenize([text]).ids).flatten()

    def likeness(text: str) -> float:
        return cosine(states(safe, text), states(model, text))

    empty = states(model, "")
    assert cosine(states(safe, "church"), empty) > cosine(states(model, "church"), empty) + 0.05
    kept, moved = likeness("a photo of tree"), likeness("a photo of chapel")
    assert kept > 0.9
    assert 1 - moved > 1.5 * (1 - kept), "the concept's prompts leave their places"


@pytest.mark.parametrize("n_concepts", [1, 2])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, n_concepts: int) -> None:
    concepts = [CHURCH, Concept(name="dog")][:n_concepts]
    cost = DES.preset(None, "object", SHORT).erase(model, concepts, [words] * n_concepts).recipe["cost"]
    assert (cost["text_encoder_calls"], cost["unet_calls"]) == (1 + 4, 0)
    read = cost["text_encoder_rows"] - 4 * (3 + 3 + n_concepts)
    assert read <= 6 + 6 + n_concepts + 1, "each text once"


def test_nothing_to_keep_is_an_error(model: StableDiffusion, words: Knowledge) -> None:
    with pytest.raises(InputError, match="No unrelated words"):
        DES.preset(None, "object", SHORT).erase(model, [CHURCH], [words.model_copy(update={"unrelated": ("chapel",)})])
