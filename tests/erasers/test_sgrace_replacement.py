"""How S-GRACE chooses what takes a concept's place, on the built-in model."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace import load_model
from sgrace.erasers.base import Job
from sgrace.erasers.sgrace import SGrace
from sgrace.erasers.sgrace.replacement import PICTURED, replacement_of
from sgrace.erasers.sgrace.subject import Replacement
from sgrace.knowledge import Target
from sgrace.testbeds.emoji import EmojiTestbed


def chosen(concept: str, **settings: str) -> Replacement:
    testbed = EmojiTestbed()
    target = Target(testbed.resolve(concept), testbed.words(testbed.resolve(concept)))
    model = load_model("emoji")
    model.set_progress_bar_config(disable=True)
    job = Job(model, (target,), 0, torch.Generator().manual_seed(0), random.Random(0))
    config = SGrace.preset("replacement", "object", settings).config
    return replacement_of(config, job, target.concept, target.words)


def test_of_near_candidates_the_one_whose_images_look_least_like_the_concept() -> None:
    """Cats are the nearest to dogs, in the text and in what is drawn."""
    nearest = chosen("dog")
    assert nearest.word == nearest.ranking[0].word == "cat"
    assert nearest.unlike == {}
    least = chosen("dog", replacement_rule="least_alike")
    assert least.ranking == nearest.ranking
    assert list(least.unlike) == [word for word, _ in least.ranking[:PICTURED]]
    assert min(least.unlike, key=least.unlike.__getitem__) == "cat"
    assert max(least.unlike, key=least.unlike.__getitem__) == least.word
    assert least.unlike[least.word] > 1.4 * least.unlike["cat"]


def test_a_ceiling_holds_for_both_rules() -> None:
    below = {word for word, cosine in chosen("dog").ranking if cosine <= 0.5}
    for rule in ("nearest", "least_alike"):
        assert chosen("dog", replacement_rule=rule, replacement_ceiling="0.5").word in below


@pytest.mark.parametrize("rule", ["nearest", "least_alike"])
def test_a_given_word_is_taken_as_it_is(rule: str) -> None:
    assert chosen("dog", replacement_rule=rule, replacement="cat") == Replacement("cat", [])
