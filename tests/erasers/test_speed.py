"""SPEED: its closed form against a constrained least-squares problem, what it retains, its cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import last_word_embeds
from sgrace.erasers.speed import SPEED, Plan, centres, constrained_change, moved_most, null_projector
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

CHURCH = Concept(name="church")


@pytest.mark.parametrize("slack", [0.0, 0.4])
def test_the_edit_solves_its_constrained_problem(slack: float) -> None:
    rng = np.random.default_rng(0)
    erased = rng.normal(size=(4, 8))
    replacement = rng.normal(size=(4, 8))
    w = rng.normal(size=(5, 8))
    retained = rng.normal(size=(3, 8))
    fixed = rng.normal(size=(8, 2))
    plan = Plan(
        target=torch.tensor(erased.T @ erased / 4),
        change=torch.tensor((replacement - erased).T @ erased / 4),
        retained=torch.tensor(retained),
        fixed=torch.tensor(fixed),
    )
    found = w @ constrained_change(plan, null_projector(plan.retained, 1e-9), 0.3, slack).numpy()
    # the change is Z B^T, with B a basis of all that is orthogonal to what must stay;
    # slack makes the fixed embeddings a penalty instead
    stay = retained if slack else np.vstack([retained, fixed.T])
    basis = np.linalg.svd(stay)[2][len(stay) :].T
    rows = [erased @ basis / 2, np.sqrt(0.3) * np.eye(basis.shape[1])]
    wanted = [(replacement - erased) @ w.T / 2, np.zeros((basis.shape[1], 5))]
    if slack:
        rows.append(fixed.T @ basis / np.sqrt(slack))
        wanted.append(np.zeros((2, 5)))
    reference = np.linalg.lstsq(np.vstack(rows), np.vstack(wanted), rcond=None)[0].T @ basis.T
    np.testing.assert_allclose(found, reference, atol=1e-9)


def test_only_what_moves_most_is_retained() -> None:
    embeds = torch.tensor([[1.0, 0.0], [0.0, 5.0], [4.0, 9.0]])
    assert moved_most(embeds, torch.tensor([[1.0, 0.0]])).tolist() == [[4.0, 9.0]]


def test_a_projector_spares_strong_directions() -> None:
    projector = null_projector(torch.diag(torch.tensor([3.0, 0.1, 2.0])), 0.5)
    torch.testing.assert_close(projector, torch.diag(torch.tensor([0.0, 1.0, 0.0])))


def test_centres_are_means_of_clusters() -> None:
    rows = torch.tensor([[0.0], [0.2], [5.0], [5.4], [9.0]])
    assert sorted(centres(rows, 3).flatten().tolist()) == pytest.approx([0.1, 5.2, 9.0])
    assert len(centres(rows[:2], 3)) == 2


def test_retained_words_and_the_start_token_answer_as_before(model: DiffusionModel, words: Knowledge) -> None:
    settings = {
        "threshold": "1e-6",
        "ridge": "1e-2",
        "select": "false",
        "n_variants": "0",
        "replacement": "dog",
    }
    safe = SPEED.preset(None, "object", settings).erase(model, [Target(CHURCH, words)]).apply(model)
    name = model.sites.names("text_v")[0]
    old = model.denoiser.get_parameter(name)
    new = safe.denoiser.get_parameter(name)
    church, dog, tree, nothing = last_word_embeds(model, ["church", "dog", "tree", ""])
    moved = (new @ church - old @ church).norm()
    assert moved > 0.1 * (old @ church).norm()
    assert (new @ church - old @ dog).norm() < 0.9 * (old @ church - old @ dog).norm()
    for embed in (dog, tree, nothing):
        assert (new @ embed - old @ embed).norm() < 1e-3 * moved


@pytest.mark.parametrize(("positions", "calls"), [("last", 4), ("all", 2)])
@pytest.mark.parametrize("matrices", ["v", "k", "kv"])
def test_it_reads_texts_only(
    model: DiffusionModel, words: Knowledge, positions: str, calls: int, matrices: str
) -> None:
    eraser = SPEED.preset(None, "object", {"positions": positions, "matrices": matrices})
    erasure = eraser.erase(model, [Target(CHURCH, words)])
    assert erasure.recipe.cost.denoiser_calls == 0
    assert erasure.recipe.cost.text_encoder_calls == calls
    assert {name.split(".")[-2] for name in erasure.tensors["unet"]} == {f"to_{x}" for x in matrices}


def test_nothing_to_retain_is_told(model: DiffusionModel) -> None:
    """Each concept has an unrelated word, but it is a word of the other."""
    targets = []
    for name, other in (("church", "boat"), ("boat", "church")):
        words = Knowledge(source="test", related=(), unrelated=(other,))
        targets.append(Target(Concept(name=name), words))
    with pytest.raises(InputError, match="No unrelated words"):
        SPEED().erase(model, targets)
