"""Prompts at and over the text length are attacked like all others."""

from __future__ import annotations

import pytest

from sgrace.attacks import Budget, Prompt
from sgrace.attacks._token_space import Layout
from sgrace.attacks.session import Session
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel

from .cases import CASES
from .scenes import attack_of, scene_of


def prompts_of(model: DiffusionModel) -> list[Prompt]:
    """From one token under the text length to far beyond it; every word is one token."""
    room = model.text.main.room
    return [Prompt(" ".join(["church"] * n), n) for n in (room - 1, room, room + 1, 3 * room)]


@pytest.mark.parametrize("name", CASES)
def test_long_prompts_are_attacked(model: DiffusionModel, words: Knowledge, name: str) -> None:
    found = attack_of(name).run(scene_of(model, words, prompts=prompts_of(model)), seed=3)
    assert [a.checks for a in found.attempts] == [CASES[name].checks] * 4


@pytest.mark.parametrize(
    "name", ["unlearn_diff_atk", "random_tokens", "p4d_n", "ring_a_bell_hard", "mma_text", "pez"]
)
def test_more_free_tokens_than_fit_are_left_out(model: DiffusionModel, words: Knowledge, name: str) -> None:
    room = model.text.main.room
    attack = type(attack_of(name)).preset("full", {**CASES[name].short, "n_tokens": str(room + 3)})
    found = attack.run(scene_of(model, words), seed=3)
    assert [a.checks for a in found.attempts] == [CASES[name].checks] * 3


def test_free_tokens_that_do_not_fit_are_left_out(model: DiffusionModel) -> None:
    """A quarter of an interleaved row is free; the prompt loses its end."""
    room = model.text.main.room
    layout = Layout.interleaved(model, [p.text for p in prompts_of(model)] + ["church"], 3)
    assert layout.counts == [-(-room // 4)] * 4 + [1]
    assert [len(content) for content in layout.contents()] == [room] * 4 + [2]
    assert layout.tokens.end.tolist() == [room + 1] * 4 + [3]


def test_a_session_knows_what_is_cut(model: DiffusionModel, words: Knowledge) -> None:
    scene = scene_of(model, words, prompts=prompts_of(model))
    assert Session(scene, Budget(), 0).truncated == [2, 3]
    assert Session(scene, Budget(), 0).left_alone == []
    assert attack_of("none").run(scene, seed=3).record.truncated_prompts == 2
