"""DES: each of its terms against the formula, the targets, what training does, cost."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers import des
from sgrace.erasers.des import DES, cosine_distance, least_similar, retain_loss, shifted
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.models.families.stable_diffusion import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "4", "batch": "3", "n_prompts": "6", "lr": "1e-2"}


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def least_like(row: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return min(vectors.unbind(), key=lambda vector: cosine(row, vector))


def test_targets_and_terms_are_their_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(des, "COMPARE_BATCH", 3)  # a full piece and a smaller one
    generator = torch.Generator().manual_seed(0)
    concept = torch.randn(4, 9, generator=generator)
    retain = torch.randn(6, 9, generator=generator)
    shift = torch.randn(4, 9, generator=generator)
    directions = F.normalize(shift, dim=-1)
    found = shifted(retain[least_similar(concept, retain)], directions, 2.5)
    for row, target, direction in zip(concept, found, directions, strict=True):
        torch.testing.assert_close(target, least_like(row, retain) - 2.5 * direction)
    expected = sum(1 - cosine(a, b) for a, b in zip(concept, found, strict=True)) / 4
    assert cosine_distance(concept, found).item() == pytest.approx(expected, abs=1e-5)
    now = concept
    before = retain[:4]
    each = [(1 - cosine(n, b)) + (1 - cosine(n + s, b)) for n, b, s in zip(now, before, shift, strict=True)]
    assert retain_loss(now, before, shift).item() == pytest.approx(sum(each) / 4, abs=1e-5)


def test_retain_vectors_along_the_direction_weigh_less() -> None:
    direction = torch.tensor([[1.0, 0.0]])
    along = torch.tensor([[2.0, 0.1]])
    across = torch.tensor([[0.1, 2.0]])
    assert retain_loss(along, along, 3 * direction).item() < 0.01
    assert retain_loss(across, across, 3 * direction).item() > 0.3


def test_the_name_moves_to_the_empty_prompt_and_the_rest_stays(
    model: StableDiffusion, words: Knowledge
) -> None:
    settings = {
        "n_prompts": "16",
        "batch": "8",
        "iterations": "100",
        "lr": "3e-3",
        "retain_weight": "0.7",
        "shift": "0",
    }
    safe = DES.preset(None, "object", settings).erase(model, [Target(CHURCH, words)]).apply(model)

    def vector(of: DiffusionModel, text: str) -> torch.Tensor:
        return of.encode([text]).prompt_embeds.flatten().detach()

    def likeness(text: str) -> float:
        return cosine(vector(safe, text), vector(model, text))

    uncond = vector(model, "")
    assert cosine(vector(safe, "church"), uncond) > cosine(vector(model, "church"), uncond) + 0.05
    retained = likeness("a photo of tree")
    moved = likeness("a photo of chapel")
    assert retained > 0.9
    assert 1 - moved > 1.5 * (1 - retained), "the concept's prompts move away"


@pytest.mark.parametrize("n_concepts", [1, 2])
def test_it_makes_no_more_calls_than_it_needs(
    model: StableDiffusion, words: Knowledge, n_concepts: int
) -> None:
    targets = [Target(concept, words) for concept in (CHURCH, Concept(name="dog"))[:n_concepts]]
    cost = DES.preset(None, "object", SHORT).erase(model, targets).recipe.cost
    assert (cost.text_encoder_calls, cost.denoiser_calls) == (1 + 4, 0)
    assert cost.text_encoder_rows is not None
    read = cost.text_encoder_rows - 4 * (3 + 3 + n_concepts)
    assert read <= 6 + 6 + n_concepts + 1, "each text once"


def test_nothing_to_retain_is_an_error(model: StableDiffusion, words: Knowledge) -> None:
    own_only = words.model_copy(update={"unrelated": ("chapel",)})
    with pytest.raises(InputError, match="No unrelated words"):
        DES.preset(None, "object", SHORT).erase(model, [Target(CHURCH, own_only)])
