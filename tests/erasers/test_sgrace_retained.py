"""Words of the vocabulary that the second stage of S-GRACE keeps, on the built-in model."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace import load_model
from sgrace.erasers._shared.generated_data import Texts, generate_latents
from sgrace.erasers.base import Job
from sgrace.erasers.sgrace import SGrace
from sgrace.erasers.sgrace.constants import Constants
from sgrace.erasers.sgrace.retain import unit_features
from sgrace.erasers.sgrace.retained import Unlisted, draw_else, words_around
from sgrace.knowledge import Target
from sgrace.testbeds.emoji import EmojiTestbed

LOOKS = ("a picture of {}", "{}, flat", "{}, 3d")
NAMES = ("church", "cross", "bless")


@pytest.fixture(scope="module")
def job() -> Job:
    model = load_model("emoji")
    model.set_progress_bar_config(disable=True)
    testbed = EmojiTestbed()
    concept = testbed.resolve("church")
    generator = torch.Generator().manual_seed(0)
    return Job(model, (Target(concept, testbed.words(concept)),), 0, generator, random.Random(0))


def test_other_names_of_the_concept_are_told_from_words_that_look_like_it(job: Job) -> None:
    words = ["chapel", "christ", "mosque", "castle", "tower"]
    rows = [Unlisted(word, (look,), NAMES) for word in words for look in LOOKS]
    prompts = [row.prompts[0] for row in rows]
    texts = Texts(job.model, [*prompts, ""])
    images = generate_latents(
        job.model, texts, prompts, job.generator, num_inference_steps=8, guidance_scale=2.0
    )
    kept = draw_else(job, rows, texts(prompts), images).unflatten(0, (len(words), len(LOOKS)))
    found = dict(zip(words, kept.sum(1).tolist(), strict=True))
    assert found["chapel"] == found["christ"] == 0
    assert min(found["mosque"], found["castle"], found["tower"]) >= 2


def test_half_of_the_words_are_the_nearest_of_the_vocabulary(job: Job) -> None:
    config = SGrace.preset("full", "object", {"path_prompts": "40", "path_random_share": "0.5"}).config
    subject = Constants(config, job).subjects[0]
    rows = words_around(config, job, [subject], subject)
    assert len(rows) == 20
    words = unit_features(job.model, [row.word for row in rows])
    names = unit_features(job.model, ["church", *subject.related])
    nearness = (words @ names.T).amax(1)
    assert nearness[:10].min() > nearness[10:].max()
    assert {name for row in rows for name in row.nearest} <= {"church", *subject.related}
    for row in rows:
        assert len(set(row.prompts)) == 3
        assert all(row.word in prompt for prompt in row.prompts)
