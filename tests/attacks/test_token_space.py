"""The pieces of attacks against independent implementations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sgrace._util import registry
from sgrace.attacks import Budget
from sgrace.attacks._token_space import Layout, encoded, gradient, nearest_tokens, simplex_projection
from sgrace.attacks.session import Session
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning, DiffusionModel

from .scenes import scene_of


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_simplex_projection_is_the_nearest_point(row: list[float]) -> None:
    projected = simplex_projection(torch.tensor(row, dtype=torch.float64))
    assert projected.sum().item() == pytest.approx(1)
    assert (projected >= 0).all()
    low = min(row) - 1
    high = max(row)
    for _ in range(100):  # bisection for the shift, as the published attack does it
        middle = (low + high) / 2
        if sum(max(0.0, v - middle) for v in row) > 1:
            low = middle
        else:
            high = middle
    assert projected.tolist() == pytest.approx([max(0.0, v - low) for v in row], abs=1e-9)


def test_layouts_place_free_tokens(model: DiffusionModel) -> None:
    text = "church of dog"
    tokens = model.text.main.content_tokens
    church = tokens("church")
    of = tokens("of")
    whole = [*church, *of, *tokens("dog")]
    filling = torch.tensor([7, 8])
    assert tokens(text) == whole
    assert Layout.prefix(model, [text], 2).filled(filling).contents() == [[7, 8, *whole]]
    assert Layout.alone(model, 1, 2).filled(filling).contents() == [[7, 8]]
    interleaved = Layout.interleaved(model, [text], len(whole) - 1)
    assert interleaved.filled(filling).contents() == [[7, *whole[:-1], 8, whole[-1]]]
    within = Layout.within(model, ["church {} of", "{}"])
    assert within.filled(filling).contents() == [[*church, 7, *of], [8]]
    assert within[[1, 0, 1]].counts == [1, 1, 1]


def test_values_are_listed_prompt_after_prompt(model: DiffusionModel) -> None:
    """Also where prompts have different numbers of free tokens."""
    layout = Layout.interleaved(model, ["church", "a of dog house"], 2)
    assert layout.counts == [1, 2]
    table = model.text.main.embed(torch.arange(20))
    by_embeddings = layout.encode(model, table[[7, 8, 9]])
    by_tokens = encoded(model, layout.filled(torch.tensor([7, 8, 9])).tokens)
    torch.testing.assert_close(by_embeddings.prompt_embeds, by_tokens.prompt_embeds)


def test_gradients_are_each_prompts_own(model: DiffusionModel) -> None:
    layout = Layout.interleaved(model, ["church", "a of dog house", "boat"], 2)
    values = model.text.main.embed(torch.tensor([7, 8, 9, 10]))

    def losses(_part: slice, cond: Conditioning) -> torch.Tensor:
        return cond.prompt_embeds.square().flatten(1).mean(1) + cond.prompt_embeds[:, 3, 2]

    whole = values.clone().requires_grad_(True)
    expected = losses(slice(None), layout.encode(model, whole))
    (slope,) = torch.autograd.grad(expected.sum(), whole)
    for size in (1, 2, 32):
        model.batch_size = size
        found = gradient(model, layout, values, losses)
        torch.testing.assert_close(found.losses, expected.detach())
        torch.testing.assert_close(found.values, slope)


def test_prompt_embeds_do_not_depend_on_padding(model: DiffusionModel) -> None:
    filling = torch.tensor([[7, 8, 9], [10, 11, 12]])
    whole = Layout.alone(model, 2, 3).filled(filling)
    short = encoded(model, whole.unpadded(model).tokens).prompt_embeds
    assert short.shape[1] == 5
    torch.testing.assert_close(short, encoded(model, whole.tokens).prompt_embeds[:, :5], atol=1e-5, rtol=1e-5)


def test_a_token_is_its_own_nearest(model: DiffusionModel) -> None:
    table = F.normalize(model.text.main.embed(torch.arange(20)), dim=-1)
    assert nearest_tokens(3 * table[None, 4:7], table).tolist() == [[4, 5, 6]]
    picks = torch.arange(20).repeat(10)  # more than are compared at once
    assert torch.equal(nearest_tokens(table[picks], table), picks)


def test_a_learned_word_denoises_better_than_the_first_one(model: DiffusionModel, words: Knowledge) -> None:
    attack = registry.load("attacks", "concept_inversion")
    clean = Session(scene_of(model, words), Budget(), 5).concept_latents("test")
    latents = clean[torch.arange(200) % 3]
    noise = model.noise(200, torch.Generator().manual_seed(0))
    timesteps = torch.arange(200.0) * 5
    noisy = model.schedule.add_noise(latents, noise, timesteps)
    errors = []
    for iterations in (1, 60):
        config = attack.config_type(images="all_prompts", iterations=iterations, batch=4, n_starts=2)
        found = attack(config).run(scene_of(model, words), seed=1)
        with torch.no_grad():
            conds = Layout.within(model, ["a photo of {}"] * 2).encode(model, found.tensors["word"])
            outputs = [model.predict(noisy, timesteps, conds[[start]].expand(200)) for start in range(2)]
        goal = model.schedule.target(latents, noise, timesteps)
        errors.append([F.mse_loss(output, goal).item() for output in outputs])
    assert all(map(math.isfinite, errors[0]))
    assert errors[1][0] < errors[0][0]
    assert errors[1][1] < errors[0][1]


def test_the_genetic_search_measures_nobody_twice(model: DiffusionModel, words: Knowledge) -> None:
    """What nothing has changed keeps its fitness: unchanged, the first generation is all."""
    attack = registry.load("attacks", "ring_a_bell_hard")

    def rows(generations: int, mutation: int) -> int:
        config = attack.config_type(
            n_pairs=3, n_tokens=4, population=6, generations=generations, crossover=0, mutation=mutation
        )
        spent = attack(config).run(scene_of(model, words), seed=1).record.spent
        return int(spent.text_encoder_rows)

    assert rows(9, 0) == rows(1, 0)
    assert rows(9, 1) == rows(1, 1) + 8 * 6 * 3  # generations, people, prompts
