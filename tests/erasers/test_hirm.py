"""HiRM: its loss against the formula, where the prompt embeddings are sent, which layers move, cost."""

from __future__ import annotations

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.prompts import replacement_of
from sgrace.erasers.hirm import HiRM, hirm_loss
from sgrace.knowledge import Knowledge, Target
from sgrace.models.families.stable_diffusion import StableDiffusion

CHURCH = Concept(name="church")


def hirm(**settings: str) -> HiRM:
    return HiRM.preset(None, "object", settings)


def test_the_loss_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(3, 5, 7, generator=generator)
    goals = torch.randn(3, 5, 7, generator=generator)
    expected = (
        sum(sum((embeddings[i, t] - goals[i, t]).pow(2).sum() for t in range(5)) / 5 for i in range(3)) / 3
    )
    torch.testing.assert_close(hirm_loss(embeddings, goals), expected)


@torch.no_grad()
def test_goals_of_each_direction(model: StableDiffusion, words: Knowledge) -> None:
    target = Target(CHURCH, words)

    def goals(seed: int = 0, **settings: str) -> torch.Tensor:
        eraser = hirm(words="related", phrasings="true", **settings)
        prompts = eraser.prompts(target)
        assert prompts[:2] == ["church", "a photo of church"]
        return eraser.goals(model, target, prompts, torch.Generator().manual_seed(seed))

    random = goals(direction="random", scale="500")
    torch.testing.assert_close(random.norm(dim=-1), torch.full(random.shape[:2], 500.0))
    assert random.shape[1] == model.text.main.length - 1
    assert (random == random[:1]).all(), "one vector for each position, whatever the prompt"
    assert not random.equal(goals(1, direction="random", scale="500"))

    other = replacement_of(target, "")
    replaced = goals(scale="2")
    own = hirm(words="related", phrasings="true").prompts(target)
    for row, prompt in zip(replaced, own, strict=True):
        name = next(word for word in ("church", "chapel") if word in prompt)
        torch.testing.assert_close(row, 2 * model.encode([prompt.replace(name, other)]).prompt_embeds[0, 1:])

    near = goals(direction="subtract", scale="0")
    far = goals(direction="subtract", scale="2")
    torch.testing.assert_close(near, model.encode(own).prompt_embeds[:, 1:])
    step = (near - far) / 2
    torch.testing.assert_close(step, step[:1].expand_as(step), rtol=1e-3, atol=1e-4)
    alone = words.model_copy(update={"contexts": ("{}",), "related": ("church",), "unrelated": ("dog",)})
    eraser = hirm(direction="subtract")
    goal = eraser.goals(model, Target(CHURCH, alone), ["church"], torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(goal, model.encode(["dog"]).prompt_embeds[0, 1:], rtol=1e-3, atol=1e-4)


def test_training_brings_the_prompt_embeddings_to_the_goals(model: StableDiffusion, words: Knowledge) -> None:
    target = Target(CHURCH, words)
    safe = hirm(iterations="60", lr="1e-2").erase(model, [target]).apply(model)
    before, goal = model.encode(["church", replacement_of(target, "")]).prompt_embeds[:, 1:]
    after = safe.encode(["church"]).prompt_embeds[0, 1:]
    assert (after - goal).norm() < 0.5 * (before - goal).norm()


@pytest.mark.parametrize("layers", [1, 2])
def test_only_the_first_layers_move(model: StableDiffusion, words: Knowledge, layers: int) -> None:
    erasure = hirm(layers=str(layers), lr="1e-2").erase(model, [Target(CHURCH, words)])
    before = dict(model.text.main.module.named_parameters())
    after = erasure.tensors["text_encoder"]
    moved = {name for name, value in before.items() if not value.equal(after[name])}
    inside = {name for name in before if any(f"layers.{i}." in name for i in range(layers))}
    # a key's bias cancels in the softmax
    assert {name for name in inside if not name.endswith("k_proj.bias")} <= moved <= inside
    assert erasure.recipe.cost.trained_parameters == sum(before[name].numel() for name in inside)


def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge) -> None:
    targets = [Target(CHURCH, words), Target(Concept(name="boat"), words)]
    cost = hirm(iterations="4").erase(model, targets).recipe.cost
    assert (cost.text_encoder_calls, cost.text_encoder_rows, cost.denoiser_calls) == (2 + 4, 2 + 4 * 2, 0)


def test_a_missing_replacement_is_an_error_only_where_it_is_needed(
    model: StableDiffusion, words: Knowledge
) -> None:
    targets = [Target(CHURCH, words.model_copy(update={"replacements": ()}))]
    with pytest.raises(InputError, match="replacement"):
        hirm().erase(model, targets)
    assert hirm(direction="random", scale="1").erase(model, targets).tensors["text_encoder"]
