"""What a text encoder adds to WordNet's words: an encoder of invented cosines beside the real WordNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sgrace.concept import Concept, Kind
from sgrace.knowledge.encoder_words import Added, Reader, added
from sgrace.knowledge.nearness import Nearness
from sgrace.knowledge.offline import find
from sgrace.knowledge.wordnet import WordNet

WORDNET = WordNet.installed()


def scale(known: Mapping[str, float], rest: float = 0.1) -> Nearness:
    return lambda _, words: [known.get(word, rest) for word in words]


def reader(cosines: Mapping[str, float], tokens: Sequence[str], others: Sequence[Nearness] = ()) -> Reader:
    def neighbours(_: str, n: int, is_word: Callable[[str], bool]) -> Sequence[str]:
        return [word for word in tokens if is_word(word)][:n]

    return Reader(scale(cosines), neighbours, others)


def church(encoder: Reader, kind: Kind | None = None, name: str = "church") -> Added:
    words, meaning = find(Concept(name=name, kind=kind), wordnet=WORDNET)
    clean, _ = words.guarded(name)
    return added(clean, name, WORDNET, meaning, encoder)


#: Half of the concept's own words and of the things of its kind are at 0.5, one protected word is at 0.7.
COSINES = {"cathedral": 0.5, "minster": 0.5, "duomo": 0.5, "basilica": 0.5, "kirk": 0.5, "dog": 0.7}
COSINES |= dict.fromkeys(["mosque", "temple", "synagogue", "shrine", "masjid"], 0.6)


def test_another_name_is_nearer_than_every_protected_word_and_a_near_token() -> None:
    cosines = {**COSINES, "parish": 0.8, "religion": 0.69, "roof": 0.9}
    words, doubtful = church(reader(cosines, ["parish", "religion"]))
    assert "parish" in words.related
    assert words.reasons["parish"] == "read as the concept: cosine 0.80 in the text encoder, a near token"
    assert "religion" not in words.related
    assert "religion" in words.cooccurring, "nearer than half of its kind: at risk, so protected"
    assert "roof" not in {*words.related, *words.protected}
    assert [one.word for one in doubtful] == ["roof"], "one measure alone erases nothing, and it is told"


def test_wordnet_decides_what_a_near_word_is() -> None:
    near = ["restaurant", "structure", "kitten"]
    words, _ = church(reader({**COSINES, **dict.fromkeys(near, 0.9)}, near))
    assert "restaurant" in words.near, "another building is protected, however near it is"
    assert "structure" in words.cooccurring, "so is what a church is a kind of"
    assert not {"restaurant", "structure"} & set(words.related)
    assert "kitten" in words.related


def test_kinds_in_the_vocabulary_are_related_however_far_they_lie() -> None:
    words, _ = church(
        reader({"ambulance": -0.5}, ["ambulance", "canoe", "house", "vehicles"]), None, "vehicle"
    )
    assert (
        words.reasons["ambulance"] == "a kind of it in WordNet, and a word of the text encoder's vocabulary"
    )
    assert words.related.count("canoe") == 1
    assert not {"house", "vehicles"} & set(words.related)


def test_sentence_embeddings_have_a_say() -> None:
    cosines = {**COSINES, "parish": 0.8, "kitten": 0.8}
    words, doubtful = church(reader(cosines, ["parish", "kitten"], [scale({"parish": 0.4})]))
    assert "parish" in words.related
    assert "kitten" not in words.related
    assert [one.word for one in doubtful] == ["kitten"]


@pytest.mark.parametrize("kind", ["harmful", "object"])
def test_nothing_near_a_harmful_concept_is_protected(kind: Kind) -> None:
    tokens = ["rifle", "holster", "handgun"]
    before, _ = find(Concept(name="pistol", kind=kind), wordnet=WORDNET)
    words, _ = church(reader(dict.fromkeys(tokens, 0.9), tokens), kind, "pistol")
    new = set(words.protected) - set(before.protected)
    assert bool(new) == (kind == "object")


def test_names_written_as_one_word_and_word_pieces() -> None:
    tokens = ["vangogh", "tion", "monet", "churches", "pre"]
    words, _ = church(reader(dict.fromkeys(tokens, 0.9), tokens), "style", "van gogh")
    assert "vangogh" in words.related
    everything = {*words.related, *words.protected}
    assert not {"tion", "pre"} & everything, "byte pairs are no words"
    assert "monet" in words.near


def test_lists_grow_by_few_words_and_keep_their_own() -> None:
    every = ["parish", "religion", "priest", "wedding", "pope", "bible", "sermon", "prayer", "hymn", "psalm"]
    before, _ = find(Concept(name="church"), wordnet=WORDNET)
    words, _ = church(reader(dict.fromkeys(every, 0.9), every))
    assert words.related[: len(before.related)] == before.related
    assert 0 < len(words.related) - len(before.related) <= 8
    fields: Any = ("related", "near", "cooccurring", "unrelated")
    lists = [word for field in fields for word in getattr(words, field)]
    assert len(lists) == len(set(lists)), "no word stands in two lists"
    assert set(words.reasons) == set(lists), "each word says where it comes from"
