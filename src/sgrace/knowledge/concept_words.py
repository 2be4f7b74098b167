"""The words of a concept as people read, edit and review them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from pydantic import Field, field_validator

from .._util.settings import Settings
from .._util.text import visible
from ..concept import Kind
from .guard import Dropped, Kept, protectable, usable
from .spelling import RULE, clean, fault

MAX_REASON = 120


class Candidate(Settings):
    """A word that may take the concept's place."""

    word: str = Field(description="The word.")
    reason: str = Field("", description="Why it is one.")

    @field_validator("word")
    @classmethod
    def _is_word(cls, word: str) -> str:
        return _checked(word)


class ConceptWords(Settings):
    """Words of a concept's space by what they are to it. This is the schema of word files in YAML."""

    concept: str | None = Field(None, description="Whose words they are.")
    kind: Kind | None = Field(None, description="What the concept is: object, style or harmful.")
    source: str = Field("file", description="Where the words come from.")
    related: tuple[str, ...] = Field(description="Words that name or describe the concept. They are erased.")
    near: tuple[str, ...] = Field((), description="Words of other things of its kind. They are protected.")
    cooccurring: tuple[str, ...] = Field(
        (), description="Words of what is often seen with it. They are protected."
    )
    unrelated: tuple[str, ...] = Field(
        (), description="Words that have nothing to do with it. They are protected."
    )
    replacements: tuple[Candidate, ...] = Field(
        (), description="Candidates for its place. If there are none, the near words are candidates."
    )
    contexts: tuple[str, ...] | None = Field(None, description="Prompt patterns with one {} for its words.")
    unrelated_contexts: tuple[str, ...] | None = Field(
        None, description="Prompt patterns with one {} for protected words."
    )
    reasons: dict[str, str] = Field(default={}, description="Where a word comes from, by word.")

    @field_validator("related", "near", "cooccurring", "unrelated")
    @classmethod
    def _are_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(word) for word in words)

    @field_validator("contexts", "unrelated_contexts")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return patterns and checked_patterns(patterns)

    @field_validator("replacements", mode="before")
    @classmethod
    def _plain_candidates(cls, given: Any) -> Any:  # noqa: ANN401  (whatever the file holds)
        """A candidate without a reason may be its word alone."""
        if not isinstance(given, list | tuple):
            return given
        return [{"word": one} if isinstance(one, str) else one for one in given]

    @field_validator("reasons")
    @classmethod
    def _are_lines(cls, reasons: dict[str, str]) -> dict[str, str]:
        return {clean(word): line_of(reason) for word, reason in reasons.items()}

    @property
    def protected(self) -> tuple[str, ...]:
        """Words that must keep their meaning, each once."""
        return tuple(dict.fromkeys((*self.near, *self.cooccurring, *self.unrelated)))

    @property
    def candidates(self) -> tuple[str, ...]:
        """Words that may take the concept's place; every protected one, where nothing better is known."""
        return tuple(one.word for one in self.replacements) or self.near or self.protected

    def guarded(self, name: str, near: Collection[str] = ()) -> tuple[Self, tuple[Dropped, ...]]:
        """The words without those that must not be protected, and these with the reasons.

        Args:
            name: of the concept.
            near: words that a text encoder puts too near to it.
        """
        related = usable(self.related)
        own = (name, *related.words)
        dropped = list(related.dropped)
        seen: set[str] = set()
        update: dict[str, Any] = {"related": related.words}
        for field in ("near", "cooccurring", "unrelated"):
            kept = protectable((word for word in getattr(self, field) if word not in seen), own, near)
            seen |= set(kept.words)
            update[field] = kept.words
            dropped += kept.dropped
        candidates: Kept = protectable((one.word for one in self.replacements), own, near)
        update["replacements"] = tuple(one for one in self.replacements if one.word in candidates.words)
        dropped += [one for one in candidates.dropped if one not in dropped]
        left = {*related.words, *seen}
        update["reasons"] = {word: reason for word, reason in self.reasons.items() if word in left}
        return self.model_copy(update=update), tuple(dict.fromkeys(dropped))


def line_of(reason: str) -> str:
    """A reason as one printable line."""
    return visible("".join(c for c in reason if c.isprintable()))[:MAX_REASON]


def checked_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Prompt patterns, each with one place for a word."""
    if bad := [pattern for pattern in patterns if pattern.count("{}") != 1]:
        raise ValueError(f"a prompt pattern has one {{}} for the word, unlike {bad[0]!r}")
    return patterns


def _checked(word: str) -> str:
    found = clean(word)
    if fault(found):
        raise ValueError(f"{word[:40]!r} is no word: {RULE}")
    return found
