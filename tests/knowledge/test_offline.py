"""Words from WordNet: which meaning a name is taken for, and what becomes of names that WordNet lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace.concept import Concept, Kind
from sgrace.knowledge import ConceptWords
from sgrace.knowledge.nearness import nearest_first, too_near
from sgrace.knowledge.offline import find
from sgrace.knowledge.wordnet import PARENTS, WordNet

WORDNET = WordNet.installed()


def found(name: str, kind: Kind | None = None, broader: str | None = None) -> tuple[ConceptWords, str]:
    words, meaning = find(Concept(name=name, kind=kind), broader=broader, wordnet=WORDNET)
    clean, _ = words.guarded(name)
    assert len(clean.protected) >= 40
    assert set(clean.reasons) == {*clean.related, *clean.protected}
    return clean, meaning.note


def test_the_files_are_read_right() -> None:
    (truck,) = WORDNET.senses("Garbage Trucks")
    assert truck.words == ("garbage truck", "dustcart")
    assert truck.definition == "a truck for collecting domestic refuse"
    assert [one.words[0] for one in WORDNET.follow(truck, PARENTS)] == ["truck"]
    assert "vehicle" in {word for one in WORDNET.above(truck) for word in one.words}
    assert WORDNET.senses("greg rutkowski") == []
    assert WORDNET.frequencies["house"] > WORDNET.frequencies["chapel"]


@pytest.mark.parametrize(
    ("name", "kind", "related", "near", "replacement"),
    [
        ("church", None, "cathedral", "mosque", "another place of worship"),
        ("churches", "object", "cathedral", "mosque", "another place of worship"),
        ("van gogh", None, "vincent van gogh", "paul cezanne", "another painter"),
        ("Van Gogh", "style", "painting by van gogh", "paul cezanne", "another painter"),
        ("greg rutkowski", "style", "rutkowski", "paul cezanne", "another painter"),
        ("tench", None, "tinca tinca", "goldfish", "another cyprinid"),
        ("mickey mouse", None, "mickey mouse", "donald duck", "another fictional animal"),
        ("zorgian truck", None, "zorgian truck", "fire engine", "another truck"),
    ],
)
def test_concepts_of_every_sort(
    name: str, kind: Kind | None, related: str, near: str, replacement: str
) -> None:
    words, _ = found(name, kind)
    assert related in words.related
    assert near in words.near
    assert words.replacements[0].reason == replacement
    assert {"dog", "tree", "child"} <= set(words.unrelated)


def test_a_machine_comes_before_a_poet_and_a_bird_where_it_is_asked_for() -> None:
    assert found("crane")[1].startswith("'crane' is taken for: lifts and moves heavy objects")
    words, note = found("crane", broader="bird")
    assert "bird" in note
    assert "whooping crane" in words.related
    words, note = found("snoopy", broader="dog")
    assert note == "WordNet does not know 'snoopy'; it is taken for a dog"
    assert "poodle" in words.near


def test_nothing_near_to_a_harmful_concept_is_protected_or_takes_its_place() -> None:
    words, _ = found("pistol", "harmful")
    assert words.near == ()
    assert not {"gun", "rifle", "revolver"} & {*words.protected, *words.candidates}
    assert words.replacements[0].reason == "of another kind"


def test_a_state_is_replaced_by_what_can_be_drawn() -> None:
    words, _ = found("nudity")
    assert {"clothing", "woman", "house"} <= set(words.candidates)
    assert not set(words.near) & set(words.candidates)


def test_what_wordnet_does_not_know_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"does not know 'greg rutkowski', nor what it is: .*--words FILE"):
        found("greg rutkowski")
    with pytest.raises(InputError, match="nor 'zorg' either"):
        found("snoopy", broader="zorg")
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(InputError, match=r"WordNet is not installed; `pip install 'sgrace\[wordnet\]'`"):
        WordNet.installed()


def by_length(_: str, words: Sequence[str]) -> list[float]:
    return [1 / len(word) for word in words]


def backwards(_: str, words: Sequence[str]) -> list[float]:
    return [-1 / len(word) for word in words]


def test_encoders_order_the_words() -> None:
    words = ("boat", "ox", "horse")
    assert nearest_first("dog", words, []) == words
    assert nearest_first("dog", words, [by_length]) == ("ox", "boat", "horse")
    assert nearest_first("dog", words, [by_length, backwards]) == words, "equal ranks stay in order"
    related = ("hound", "puppy", "mastiff", "corgi")
    assert too_near("dog", related, words, by_length) == {"ox", "boat"}
    assert too_near("dog", related[:3], words, by_length) == set(), "too few tell nothing"


def test_what_begins_with_the_name_is_no_other_thing() -> None:
    words, _ = found("weapon")
    assert "weaponry" not in {*words.protected, *words.candidates}
    assert WORDNET.has("naked")
    assert WORDNET.has("Churches")
    assert not WORDNET.has("tion")
