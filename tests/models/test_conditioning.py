"""Batches of prompts: rows, joins and repeats keep everything that belongs to a prompt together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sgrace.models import Conditioning, PromptSource, Tokens

LENGTH, WIDTH = 5, 3


def made(n: int, start: int = 0, *, embeddings: bool = True) -> Conditioning:
    """``n`` prompts whose every tensor tells the prompt's number."""
    numbers = torch.arange(start, start + n)
    ids = numbers[:, None].expand(n, LENGTH)
    embeds = numbers.float()[:, None, None] + torch.arange(WIDTH) / 10
    prompt_embeds = embeds.expand(n, LENGTH, WIDTH) + torch.arange(LENGTH)[:, None] / 100
    own = {"clip": prompt_embeds + 0.5} if embeddings else {}
    source = PromptSource({"clip": Tokens(ids, numbers % LENGTH)}, own)
    pooled = numbers.float()[:, None].expand(n, 2)
    return Conditioning(prompt_embeds, pooled, {"sizes": numbers[:, None].repeat(1, 2)}, source)


def numbers(cond: Conditioning) -> list[int]:
    """Which prompts a batch holds, after a check that all of its tensors agree."""
    assert cond.pooled is not None
    assert cond.source is not None
    found = cond.prompt_embeds[:, 0, 0].round().int().tolist()
    assert cond.pooled[:, 0].int().tolist() == found
    assert cond.extras["sizes"][:, 1].tolist() == found
    tokens = cond.source.tokens["clip"]
    assert tokens.ids[:, 0].tolist() == found
    assert tokens.end.tolist() == [n % LENGTH for n in found]
    for own in cond.source.embeddings.values():
        assert own.equal(cond.prompt_embeds + 0.5)
    assert len(cond) == len(tokens) == len(found)
    return found


@given(st.integers(1, 6), st.lists(st.integers(0, 5), max_size=8))
@settings(max_examples=30, deadline=None)
def test_rows_are_taken_from_every_tensor(n: int, picks: list[int]) -> None:
    rows = [pick % n for pick in picks]
    cond = made(n)
    assert numbers(cond[rows]) == rows
    assert numbers(cond[torch.tensor(rows, dtype=torch.long)]) == rows
    assert numbers(cond[1:]) == list(range(1, n))
    mask = torch.tensor([row in rows for row in range(n)])
    assert numbers(cond[mask]) == sorted(set(rows))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_joined_parts_come_apart_again(sizes: list[int]) -> None:
    starts = [10 * place for place in range(len(sizes))]
    whole = Conditioning.cat([made(n, start) for n, start in zip(sizes, starts, strict=True)])
    expected = [start + i for n, start in zip(sizes, starts, strict=True) for i in range(n)]
    assert numbers(whole) == expected


def test_the_source_is_kept_only_where_all_parts_have_one_of_the_same_kind() -> None:
    assert Conditioning.cat([made(1), made(2).with_embeds(made(2).prompt_embeds)]).source is None
    assert Conditioning.cat([made(1), made(2, embeddings=False)]).source is None
    assert Conditioning.cat([made(1, embeddings=False), made(2, embeddings=False)]).source is not None


def test_parts_that_do_not_belong_together_are_refused() -> None:
    bare = Conditioning(made(1).prompt_embeds, extras=made(1).extras)
    for parts in (
        [made(1), bare],
        [bare, made(1)],
        [made(1), Conditioning(bare.prompt_embeds, made(1).pooled)],
    ):
        with pytest.raises(ValueError, match="cannot be in one batch"):
            Conditioning.cat(parts)


def test_repeats() -> None:
    assert numbers(made(1).expand(3)) == [0, 0, 0]
    assert numbers(made(3).expand(3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 prompts cannot stand for 3"):
        made(2).expand(3)
    assert numbers(made(2).repeat(3)) == [0, 1, 0, 1, 0, 1]
    assert numbers(made(2).repeat_interleave(3)) == [0, 0, 0, 1, 1, 1]


def test_detached_prompts_give_no_gradient() -> None:
    embeds = made(2).prompt_embeds.clone().requires_grad_(True)
    pooled = torch.ones(2, 2, requires_grad=True)
    cond = Conditioning(embeds, pooled, {"guess": embeds.mean(1)})
    detached = cond.detach()
    tensors: list[Tensor | None] = [detached.prompt_embeds, detached.pooled, detached.extras["guess"]]
    assert not any(tensor.requires_grad for tensor in tensors if tensor is not None)
    assert cond.prompt_embeds.requires_grad
    assert detached.prompt_embeds.equal(embeds)


def test_other_embeds_have_no_source_and_keep_the_rest() -> None:
    cond = made(2)
    other = cond.with_embeds(torch.zeros_like(cond.prompt_embeds))
    assert other.source is None
    assert other.pooled is cond.pooled
    assert other.extras is cond.extras
    assert cond.source is not None


def test_one_position_of_each_prompt() -> None:
    found = made(3).at(torch.tensor([0, 4, 2]))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 1.04, 2.02]))


@given(st.lists(st.integers(0, 3), max_size=5))
@settings(max_examples=20, deadline=None)
def test_token_rows(rows: list[int]) -> None:
    tokens = Tokens(torch.arange(20).view(4, 5), torch.arange(4))
    assert len(tokens[rows]) == len(rows)
    assert tokens[rows].ids[:, 0].tolist() == [5 * row for row in rows]
    assert tokens[rows].end.tolist() == rows
