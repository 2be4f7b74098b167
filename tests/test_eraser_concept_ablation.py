"""Concept Ablation: its pairs of prompts, its cost."""

from __future__ import annotations

import random

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers.concept_ablation import ConceptAblation, ConceptAblationConfig, pairs_of
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {"iterations": "3", "batch": "2", "num_inference_steps": "4", "n_pictures": "40"}


def test_pairs_replace_the_anchor_or_add_the_concept(words: Knowledge) -> None:
    rng = random.Random(0)
    replaced = pairs_of(ConceptAblationConfig(), [CHURCH], [words], rng)
    assert {(p.anchor, p.target, p.negative) for p in replaced} == {(c.format("house"), c.format("church"), "") for c in words.contexts}
    related = pairs_of(ConceptAblationConfig(words="related", anchor="dog"), [CHURCH], [words], rng)
    assert {p.target for p in related} == {c.format(w) for c in words.contexts for w in ("church", "chapel")}
    assert {p.anchor for p in related} == {c.format("dog") for c in words.contexts}
    style = Concept(name="ink", kind="style")
    added = pairs_of(ConceptAblationConfig(pairs="add"), [style], [words], rng)
    assert {p.anchor for p in added} == {c.format(w) for c in words.unrelated_contexts for w in words.unrelated}
    assert all(p.target == f"{p.anchor} in ink style" for p in added)
    harmful = Concept(name="weapon", kind="harmful")
    avoided = pairs_of(ConceptAblationConfig(pairs="add", anchor="person", avoid=True), [harmful], [words], rng)
    assert {(p.target, p.negative) for p in avoided} == {(f"{c.format('person')}, weapon", "weapon") for c in words.unrelated_contexts}


def test_concepts_take_turns_among_the_pairs(words: Knowledge) -> None:
    both = pairs_of(ConceptAblationConfig(n_prompts=6), [CHURCH, Concept(name="tree")], [words, words], random.Random(0))
    assert ["church" in p.target for p in both] == [True, False] * 3


def test_no_anchor_is_told() -> None:
    bare = Knowledge(source="test", related=(), unrelated=("dog",), replacements=("church",))
    with pytest.raises(InputError, match="take the place of 'church'"):
        pairs_of(ConceptAblationConfig(), [CHURCH], [bare], random.Random(0))


@pytest.mark.parametrize(("target", "weight", "calls"), [("model", "0", 2), ("model", "1", 2), ("noise", "0", 1)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, target: str, weight: str, calls: int) -> None:
    settings = {**SHORT, "target": target, "prior_weight": weight}
    cost = ConceptAblation.preset(None, "object", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 1
    assert cost["text_encoder_rows"] == 1 + 2 * len(words.contexts), "the empty text, and each prompt once"
    assert cost["unet_calls"] == 4 + 3 * calls, "6 pictures of the 40 are enough for 3 batches of 2, and one batch draws them"
    trained = 3 * 2 * (calls + (weight != "0"))
    assert cost["unet_rows"] == 2 * 6 * 4 + trained


def test_pictures_are_drawn_away_from_the_concept(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "anchor": "dog", "lr": "1e-3"}
    plain, avoiding = (
        ConceptAblation.preset(None, "object", {**settings, "avoid": avoid}).erase(model, [CHURCH], [words]) for avoid in ("0", "1")
    )
    assert any(not value.equal(avoiding.unet[name]) for name, value in plain.unet.items())
