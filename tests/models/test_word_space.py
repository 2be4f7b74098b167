"""How text encoders read words: in every family, each word once, by one encoder alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

import sgrace
from sgrace.models import DiffusionModel
from sgrace.models.word_space import WordSpace

from ..families import PIPELINES, shared

WORDS = ["dog", "church", "a house", "churches"]


@pytest.fixture(scope="module")
def emoji() -> DiffusionModel:
    return sgrace.load_model("emoji", device="cpu")


@contextmanager
def counted(model: DiffusionModel) -> Iterator[Counter[str]]:
    """Rows that each text encoder reads."""
    rows: Counter[str] = Counter()
    hooks = [
        own.module.register_forward_hook(
            lambda _m, inputs, _o, name=own.name: rows.update({name: len(inputs[0])})
        )
        for own in model.text
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("family", PIPELINES)
def test_one_encoder_reads_each_word_once(family: str) -> None:
    model = shared(family)
    space = WordSpace(model)
    with counted(model) as rows:
        first = space.nearness("church", WORDS)
        again = space.nearness("dog", WORDS[:2])
        neighbours = space.neighbours("church", 5, lambda _: True)
    assert rows == {space.encoder.name: len(WORDS)}, "other encoders do not run, no word is read twice"
    assert space.encoder.is_clip or not any(own.is_clip for own in model.text)
    assert first[1] == pytest.approx(1, abs=1e-5)
    assert max(first[0], first[2]) < 1 - 1e-6
    assert again[1] == pytest.approx(first[0], abs=1e-5), "a cosine has no direction"
    encoder = space.encoder
    assert all(len(encoder.content_tokens(word)) == 1 and word.isalpha() for word in neighbours)


def test_features_are_those_of_whole_rows(emoji: DiffusionModel) -> None:
    found = WordSpace(emoji).features(WORDS)
    torch.testing.assert_close(found, F.normalize(emoji.text_features(emoji.encode(WORDS)), dim=-1))


def test_neighbours_are_the_nearest_whole_words_by_token_embedding(emoji: DiffusionModel) -> None:
    space = WordSpace(emoji)
    encoder = emoji.text.main
    found = space.neighbours("hot dog", 20, lambda word: word != "pet")
    assert len(found) == len(set(found)) == 20
    assert not {"hot", "dog", "pet"} & set(found)
    tokens = torch.tensor([encoder.content_tokens(word) for word in found])
    centre = encoder.embed(torch.tensor(encoder.content_tokens("hot dog"))).mean(0)
    cosines = F.cosine_similarity(encoder.embed(tokens[:, 0]), centre[None])
    assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
    every = encoder.embed(encoder.ordinary_tokens())
    assert (F.cosine_similarity(every, centre[None]) > cosines[-1]).sum() < 200, "none is left out for long"
