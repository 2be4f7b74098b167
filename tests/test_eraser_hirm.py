"""HiRM: its loss against the formula, where the states are sent, which layers move, cost."""

from __future__ import annotations

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import stand_in
from sgrace.erasers.hirm import HiRM, hirm_loss
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")


def hirm(**settings: str) -> HiRM:
    return HiRM.preset(None, "object", settings)


def test_the_loss_is_its_formula() -> None:
    states, goals = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = sum(sum((states[i, t] - goals[i, t]).pow(2).sum() for t in range(5)) / 5 for i in range(3)) / 3
    torch.testing.assert_close(hirm_loss(states, goals), expected)


@torch.no_grad()
def test_goals_of_each_direction(model: StableDiffusion, words: Knowledge) -> None:
    def goals(seed: int = 0, **settings: str) -> torch.Tensor:
        eraser = hirm(words="related", phrasings="true", **settings)
        prompts = eraser.prompts(CHURCH, words)
        assert prompts[:2] == ["church", "a photo of church"]
        return eraser.goals(model, CHURCH, words, prompts, torch.Generator().manual_seed(seed))

    random = goals(direction="random", scale="500")
    torch.testing.assert_close(random.norm(dim=-1), torch.full(random.shape[:2], 500.0))
    assert random.shape[1] == model.text_length - 1
    assert (random == random[:1]).all(), "one vector for each position, whatever the prompt"
    assert not random.equal(goals(1, direction="random", scale="500"))

    other = stand_in(CHURCH, words, "")
    surrogate = goals(scale="2")
    own = hirm(words="related", phrasings="true").prompts(CHURCH, words)
    for row, prompt in zip(surrogate, own, strict=True):
        name = next(word for word in ("church", "chapel") if word in prompt)
        torch.testing.assert_close(row, 2 * model.encode(model.tokenize([prompt.replace(name, other)]).ids)[0, 1:])

    near, far = (goals(direction="subtract", scale=scale) for scale in ("0", "2"))
    torch.testing.assert_close(near, model.encode(model.tokenize(own).ids)[:, 1:])
    step = (near - far) / 2
    torch.testing.assert_close(step, step[:1].expand_as(step), rtol=1e-3, atol=1e-4)
    without = words.model_copy(update={"contexts": ("{}",), "related": ("church",), "unrelated": ("dog",)})
    eraser = hirm(direction="subtract")
    (goal,) = eraser.goals(model, CHURCH, without, ["church"], torch.Generator().manual_seed(0))
    torch.testing.assert_close(goal, model.encode(model.tokenize(["dog"]).ids)[0, 1:], rtol=1e-3, atol=1e-4)


def test_training_brings_the_states_to_the_goals(model: StableDiffusion, words: Knowledge) -> None:
    erasure = hirm(iterations="60", lr="1e-2").erase(model, [CHURCH], [words])
    ids = model.tokenize(["church", stand_in(CHURCH, words, "")]).ids
    before, goal = model.encode(ids)[:, 1:]
    (after,) = erasure.apply(model).encode(ids[:1])[:, 1:]
    assert (after - goal).norm() < 0.5 * (before - goal).norm()


@pytest.mark.parametrize("layers", [1, 2])
def test_only_the_first_layers_move(model: StableDiffusion, words: Knowledge, layers: int) -> None:
    erasure = hirm(layers=str(layers), lr="1e-2").erase(model, [CHURCH], [words])
    before = dict(model.text_encoder.named_parameters())
    moved = {name for name, p in erasure.text_encoder.named_parameters() if not p.equal(before[name])}
    inside = {name for name in before if any(f"layers.{i}." in name for i in range(layers))}
    # a key's bias cancels in the softmax
    assert {name for name in inside if not name.endswith("k_proj.bias")} <= moved <= inside
    assert erasure.recipe["cost"]["trained_parameters"] == sum(before[name].numel() for name in inside)


def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge) -> None:
    concepts = [CHURCH, Concept(name="boat")]
    cost = hirm(iterations="4").erase(model, concepts, [words, words]).recipe["cost"]
    assert (cost["text_encoder_calls"], cost["text_encoder_rows"], cost["unet_calls"]) == (2 + 4, 2 + 4 * 2, 0)


def test_a_missing_surrogate_is_an_error_only_where_it_is_needed(model: StableDiffusion, words: Knowledge) -> None:
    bare = words.model_copy(update={"replacements": ()})
    with pytest.raises(InputError, match="no surrogate"):
        hirm().erase(model, [CHURCH], [bare])
    assert hirm(direction="random", scale="1").erase(model, [CHURCH], [bare]).text_encoder is not None
