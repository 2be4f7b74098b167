"""Concept Ablation: its pairs of prompts, its cost."""

from __future__ import annotations

import random

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.concept_ablation import ConceptAblation, ConceptAblationConfig, Pair, pairs_of
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel

from .made import target

SHORT = {"iterations": "3", "batch": "2", "num_inference_steps": "4", "n_images": "40"}


def erase(model: DiffusionModel, words: Knowledge, **settings: str) -> Erasure:
    return ConceptAblation.preset(None, "object", {**SHORT, **settings}).erase(model, [target(words)])


def test_pairs_replace_a_word_or_add_the_concept(words: Knowledge) -> None:
    rng = random.Random(0)

    def pairs(one: Target, **settings: object) -> list[Pair]:
        return pairs_of(ConceptAblationConfig(**settings), [one], rng)

    replaced = {(p.replacement, p.concept, p.negative) for p in pairs(target(words))}
    assert replaced == {(c.format("house"), c.format("church"), "") for c in words.contexts}
    related = pairs(target(words), words="related", replacement="dog")
    assert {p.concept for p in related} == {c.format(w) for c in words.contexts for w in ("church", "chapel")}
    assert {p.replacement for p in related} == {c.format("dog") for c in words.contexts}
    added = pairs(target(words, Concept(name="ink", kind="style")), pairs="add")
    plain = {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    assert {p.replacement for p in added} == plain
    assert all(p.concept == f"{p.replacement} in ink style" for p in added)
    harmful = target(words, Concept(name="weapon", kind="harmful"))
    avoided = pairs(harmful, pairs="add", replacement="person", avoid=True)
    expected = {(f"{c.format('person')}, weapon", "weapon") for c in words.unrelated_contexts}
    assert {(p.concept, p.negative) for p in avoided} == expected


def test_concepts_take_turns_among_the_pairs(words: Knowledge) -> None:
    targets = [target(words), target(words, Concept(name="tree"))]
    both = pairs_of(ConceptAblationConfig(n_prompts=6), targets, random.Random(0))
    assert ["church" in p.concept for p in both] == [True, False] * 3


def test_no_replacement_is_told() -> None:
    bare = Knowledge(source="test", related=(), unrelated=("dog",), replacements=("church",))
    with pytest.raises(InputError, match="take the place of 'church'"):
        pairs_of(ConceptAblationConfig(), [target(bare)], random.Random(0))


@pytest.mark.parametrize(
    ("goal", "weight", "calls"), [("model", "0", 2), ("model", "1", 2), ("noise", "0", 1)]
)
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, goal: str, weight: str, calls: int
) -> None:
    cost = erase(model, words, target=goal, retain_weight=weight).recipe.cost
    assert cost.text_encoder_calls == 1
    assert cost.text_encoder_rows == 1 + 2 * len(words.contexts), "the empty text, and each prompt once"
    # 6 images of the 40 are enough for 3 batches of 2, and they are sampled in one batch
    assert cost.denoiser_calls == 4 + 3 * calls
    trained = 3 * 2 * (calls + (weight != "0"))
    assert cost.denoiser_rows == 2 * 6 * 4 + trained


def test_images_are_sampled_away_from_the_concept(model: DiffusionModel, words: Knowledge) -> None:
    plain = erase(model, words, replacement="dog", lr="1e-3", avoid="0").tensors["unet"]
    avoiding = erase(model, words, replacement="dog", lr="1e-3", avoid="1").tensors["unet"]
    assert any(not value.equal(avoiding[name]) for name, value in plain.items())
