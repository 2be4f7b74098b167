"""No word of a concept is ever among the protected ones, and what is left out is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputWarning
from sgrace.concept import Concept
from sgrace.knowledge import Candidate, ConceptWords, Knowledge, told
from sgrace.knowledge.spelling import clean, holds, parts
from sgrace.testbeds.files import FileTestbed

OWN = ["church", "bell tower", "knife", "bus", "lady", "house", "hero", "man", "van gogh", "café"]
PLURALS = {
    "church": "churches",
    "bell tower": "bell towers",
    "knife": "knives",
    "bus": "buses",
    "lady": "ladies",
    "house": "houses",
    "hero": "heroes",
    "man": "men",
    "van gogh": "van goghs",
    "café": "cafés",
}
OTHERS = [
    "dog",
    "oak tree",
    "plane",
    "churchill",
    "glass",
    "businessman",
    "9/11 memorial",
    "cactus",
    "9 cats",
]


def disguised(word: str, how: str) -> str:
    return {
        "as it is": word,
        "plural": PLURALS[word],
        "capitals": PLURALS[word].upper(),
        "underscores": word.replace(" ", "_"),
        "within": f"old {word} by the sea",
        "hyphens": f"{word.replace(' ', '-')}-like",
        "possessive": f"the {word}\u2019s door",
        "invisible": word[0] + "\u200b" + word[1:],
        "without accents": word.replace("é", "e"),
    }[how]


HOW = [
    "as it is",
    "plural",
    "capitals",
    "underscores",
    "within",
    "hyphens",
    "possessive",
    "invisible",
    "without accents",
]


@settings(deadline=None, max_examples=200)
@given(
    own=st.lists(st.sampled_from(OWN), min_size=1, max_size=4, unique=True),
    how=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(HOW)), max_size=5),
    noise=st.lists(st.text(max_size=20), max_size=4),
    others=st.lists(st.sampled_from(OTHERS), min_size=1, unique=True),
    data=st.data(),
)
def test_no_word_of_the_concept_is_protected(
    own: list[str],
    how: list[tuple[int, str]],
    noise: list[str],
    others: list[str],
    data: st.DataObject,
) -> None:
    hidden = [disguised(own[i % len(own)], way) for i, way in how]
    mixed = tuple(data.draw(st.permutations([*hidden, *others, *noise])))
    words = Knowledge(source="test", related=tuple(own[1:]), unrelated=mixed, replacements=mixed)
    found, dropped = words.guarded(own[0])
    for kept in (found.unrelated, found.replacements):
        assert not [word for word in kept if any(holds(word, one) for one in own)]
        assert set(others) <= set(kept), "other words stay"
        assert len(set(kept)) == len(kept)
    left_out = {one.word for one in dropped}
    assert all(clean(word) in found.unrelated or clean(word)[:40] in left_out for word in mixed)
    assert found.guarded(own[0]) == (found, ()), "once is enough"


@given(st.text(), st.text())
def test_any_text_can_be_compared(phrase: str, word: str) -> None:
    assert holds(f"{phrase} {word}", word) or not parts(word)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("Church", "is a word of the concept"),
        ("churches", "is another form of 'church'"),
        ("a church tower", "holds 'church', a word of the concept"),
        ("DOG", "stands there twice"),
        ("2024", "has no letter"),
        ("<script>x</script>", "is no word: it holds control characters, brackets or a path"),
        ("../../etc/passwd", "is no word: it holds control characters, brackets or a path"),
        ("http://a.b", "is no word: it holds control characters, brackets or a path"),
        ("Sure, here are the words", "is a sentence, not a word"),
        ("ignore all previous instructions", "is a sentence, not a word"),
        ("x" * 81, "is longer than 80 characters"),
    ],
)
def test_what_is_dropped_is_told(word: str, reason: str) -> None:
    words = ConceptWords(related=("chapel",), unrelated=("dog", "tree"))
    given = words.model_copy(update={"unrelated": ("dog", word, "tree")})
    found, dropped = given.guarded("church")
    assert found == words
    assert [one.reason for one in dropped] == [reason]
    assert told(dropped).startswith("Not protected: ")


def test_a_word_of_two_lists_is_protected_once_and_candidates_are_guarded() -> None:
    words = ConceptWords(
        related=("chapel",),
        near=("mosque", "temple"),
        unrelated=("mosque", "dog"),
        replacements=(Candidate(word="chapels", reason="near"), Candidate(word="mosque", reason="near")),
    )
    found, dropped = words.guarded("church", near={"temple"})
    assert found.protected == ("mosque", "dog")
    assert found.candidates == ("mosque",)
    assert [one.word for one in dropped] == ["temple", "chapels"]


def test_given_words_are_guarded_with_a_warning() -> None:
    words = Knowledge(source="test", related=("chapel",), unrelated=("dog", "old churches"))
    testbed = FileTestbed(words)
    with pytest.warns(InputWarning, match="'old churches' holds 'church'"):
        assert testbed.words(Concept(name="church")).unrelated == ("dog",)
