"""Words from WordNet and the built-in model's own text encoder, together."""

from __future__ import annotations

import pytest

import sgrace
from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.knowledge.spelling import holds
from sgrace.models import DiffusionModel
from sgrace.testbeds.word_sources import words_of

from ..families import shared


@pytest.fixture(scope="module")
def emoji() -> DiffusionModel:
    return sgrace.load_model("emoji", device="cpu")


def test_the_encoder_finds_its_own_names_of_a_concept(emoji: DiffusionModel) -> None:
    found = words_of(emoji, Concept(name="church"))
    assert {"cathedral", "cross", "religion"} <= set(found.words.related)
    assert "a near token" in found.words.reasons["cross"]
    assert found.words.reasons["cathedral"] == "a kind of it, in WordNet"
    assert "mosque" in found.words.near
    # to this encoder a chapel is a church, and a Christian too
    dropped = {one.word: one.reason for one in found.dropped}
    assert "nearer to the concept than its own words" in dropped["chapel"]
    assert "nearer to the concept than its own words" in dropped["christian"]


def test_kinds_that_the_model_knows_are_erased_with_a_wide_concept(emoji: DiffusionModel) -> None:
    found = words_of(emoji, Concept(name="vehicle"))
    assert {"ambulance", "helicopter", "ship"} <= set(found.words.related)


@pytest.mark.parametrize("name", ["pizza", "guitar"])
def test_no_word_of_the_concept_is_protected_or_a_candidate(emoji: DiffusionModel, name: str) -> None:
    words = words_of(emoji, Concept(name=name)).words
    for word in (*words.protected, *words.candidates):
        assert not any(holds(word, own) for own in (name, *words.related)), word


def test_a_family_of_several_encoders(emoji: DiffusionModel) -> None:
    words = words_of(shared("stable_diffusion_3"), Concept(name="church")).words
    assert "cathedral" in words.related
    assert len(words.protected) >= 40
    with pytest.raises(InputError, match=r"Cannot load 'no/such'.*sentence embeddings"):
        words_of(emoji, Concept(name="church"), sentence_model="no/such")
