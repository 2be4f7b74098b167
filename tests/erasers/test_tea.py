"""TEA: its losses against the formula, its pairs, what training does, cost."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor, nn

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.tea import (
    TEA,
    Pair,
    TEAConfig,
    discriminator_loss,
    discriminator_of,
    fooling_loss,
    pairs_of,
    retain_loss,
)
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from .made import target


def logit(discriminator: nn.Sequential, state: list[float]) -> float:
    """The discriminator's answer for one state, number by number."""
    value = {name: tensor.tolist() for name, tensor in discriminator.state_dict().items()}
    answer = float(value["2.bias"][0])
    for row, bias, weight in zip(value["0.weight"], value["0.bias"], value["2.weight"][0], strict=True):
        answer += weight * max(0.0, bias + sum(a * b for a, b in zip(row, state, strict=True)))
    return answer


def test_the_losses_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    discriminator = discriminator_of(6, generator)
    concept, anchor, before = torch.randn(3, 2, 4, 6, generator=generator)  # 2 prompts, 4 positions, 6 wide

    def mean_log(states: Tensor, sign: int) -> float:
        """``-mean log sigmoid(sign D)`` behind the start token."""
        each = [logit(discriminator, state) for prompt in states.tolist() for state in prompt[1:]]
        return sum(math.log1p(math.exp(-sign * answer)) for answer in each) / len(each)

    fooled = fooling_loss(discriminator, concept).item()
    assert fooled == pytest.approx(mean_log(concept, -1), abs=1e-6)
    told = discriminator_loss(discriminator, concept, anchor).item()
    assert told == pytest.approx(mean_log(concept, 1) + mean_log(anchor, -1), abs=1e-6)
    now, then = anchor.double().flatten(0, 1), before.double().flatten(0, 1)
    cosines = (now * then).sum(-1) / (now.square().sum(-1) * then.square().sum(-1)).sqrt()
    assert retain_loss(anchor, before).item() == pytest.approx(1 - cosines.mean().item(), abs=1e-6)


def test_the_discriminator_learns_to_tell_prompts_apart(model: DiffusionModel) -> None:
    concept = model.encode(["a photo of church", "church"]).prompt_embeds.detach()
    anchor = model.encode(["a photo of boat", "boat"]).prompt_embeds.detach()
    discriminator = discriminator_of(model.text.main.width, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = discriminator_loss(discriminator, concept, anchor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(2 * math.log(2), abs=0.5), "it starts knowing nothing"
    assert losses[-1] < 0.5 * losses[0]


def test_pairs_differ_in_the_word_only(words: Knowledge) -> None:
    church = target(words)
    dog = target(words.model_copy(update={"related": ()}), Concept(name="dog"))
    pairs = pairs_of(TEAConfig(n_prompts=4, anchors="unrelated"), [church, dog], random.Random(0))
    of_church = [pair for pair in pairs if {"church", "chapel"} & set(pair.concept.split())]
    assert len({pair.concept for pair in of_church}) == 2
    assert len({pair.concept for pair in pairs}) == 4
    others = {*words.unrelated} - {"church", "chapel", "dog"}
    said = [(context, name) for context in words.contexts for name in ("church", "chapel", "dog")]
    possible = {
        Pair(context.format(name), context.format(other)) for context, name in said for other in others
    }
    assert {*pairs} <= possible
    (only,) = pairs_of(TEAConfig(n_prompts=1, n_anchors=1, words="name"), [church], random.Random(0))
    assert {only.concept.replace("church", "{}")} <= set(words.contexts)
    bare = target(words.model_copy(update={"replacements": ("chapel",)}))
    with pytest.raises(InputError, match="take the place of 'church'"):
        pairs_of(TEAConfig(), [bare], random.Random(0))


def test_concept_prompts_come_nearer_to_their_anchors_which_stay(
    model: DiffusionModel, words: Knowledge
) -> None:
    settings = {"iterations": "60", "batch": "8", "lr": "3e-3", "discriminator_lr": "1e-2"}
    erasure = TEA.preset(None, "object", settings).erase(model, [target(words)])
    safe = erasure.apply(model)
    assert erasure.recipe.cost.text_encoder_calls == 1 + 60
    assert erasure.recipe.cost.denoiser_calls == 0

    def distance(of: DiffusionModel) -> float:
        church, house = of.encode(["a photo of church", "a photo of house"]).prompt_embeds[:, 1:].detach()
        return float((church - house).square().mean())

    assert distance(safe) < 0.8 * distance(model)
    house = ["a photo of house"]
    assert retain_loss(safe.encode(house).prompt_embeds, model.encode(house).prompt_embeds).item() < 0.1
