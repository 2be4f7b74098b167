"""What keeps words of the concept out of the words that are protected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from .spelling import chatter, clean, fault, holds


class Dropped(NamedTuple):
    """A word that was left out, and why."""

    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.word!r} {self.reason}"


class Kept(NamedTuple):
    """Words that passed, in their order, and those that did not."""

    words: tuple[str, ...]
    dropped: tuple[Dropped, ...]


def usable(words: Iterable[str]) -> Kept:
    """Words without repeats, sentences and what is no word."""
    kept: dict[str, str] = {}
    dropped = []
    for given in words:
        word = clean(given)
        if reason := _unusable(word, kept):
            dropped.append(Dropped(word[:40], reason))
        else:
            kept[word] = given
    return Kept(tuple(kept), tuple(dropped))


def protectable(words: Iterable[str], own: Sequence[str], near: Collection[str] = ()) -> Kept:
    """Usable words that are no words of the concept.

    A word is one of the concept's if it equals one of them, is its plural or singular, or holds it.

    Args:
        words: to be protected.
        own: the concept's name and its related words.
        near: words that a text encoder puts too near to the concept.
    """
    usable_words, unusable = usable(words)
    kept = []
    dropped = list(unusable)
    for word in usable_words:
        held = next((one for one in own if holds(word, one)), None)
        if held is not None:
            dropped.append(Dropped(word, _held(word, held)))
        elif word in near:
            dropped.append(
                Dropped(word, "is nearer to the concept than its own words are, in the text encoder")
            )
        else:
            kept.append(word)
    return Kept(tuple(kept), tuple(dropped))


def _held(word: str, own: str) -> str:
    if word == clean(own):
        return "is a word of the concept"
    return f"is another form of {own!r}" if holds(own, word) else f"holds {own!r}, a word of the concept"


def _unusable(word: str, kept: Collection[str]) -> str | None:
    if word in kept:
        return "stands there twice"
    if chatter(word):
        return "is a sentence, not a word"
    return fault(word)


def told(dropped: Sequence[Dropped], limit: int = 5) -> str:
    """The first few of them in one sentence; empty where there is none."""
    if not dropped:
        return ""
    more = f", and {len(dropped) - limit} more" if len(dropped) > limit else ""
    return f"Not protected: {'; '.join(map(str, dropped[:limit]))}{more}."
