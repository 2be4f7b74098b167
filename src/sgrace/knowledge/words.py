"""Word lists of a concept and their repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .._util.errors import InputError
from .._util.notebook import card
from ..concept import folded
from .concept_words import ConceptWords, checked_patterns
from .guard import Dropped, protectable, usable
from .word_files import read_words

N_SHOWN = 16  # words of each list in a notebook
OBJECT_CONTEXTS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")


class Knowledge(BaseModel):
    """Word lists of one concept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Where the words come from.")
    related: tuple[str, ...] = Field(description="Words that name or describe the concept.")
    unrelated: tuple[str, ...] = Field(description="Words that must keep their meaning.")
    replacements: tuple[str, ...] = Field(
        (),
        description="Candidates for the concept that prompts of the erased one show instead.",
    )
    contexts: tuple[str, ...] = Field(
        OBJECT_CONTEXTS, description="Prompt patterns with one {} for a word of the concept."
    )
    unrelated_contexts: tuple[str, ...] = Field(
        OBJECT_CONTEXTS, description="Prompt patterns with one {} for an unrelated word."
    )

    def __repr__(self) -> str:
        return f"Knowledge({self.source}: {len(self.related)} related, {len(self.unrelated)} unrelated words)"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        lists = {
            "related": self.related,
            "to retain": self.unrelated,
            "replacements": self.replacements,
            "contexts": self.contexts,
        }
        facts = {name: _few(values) for name, values in lists.items()}
        return card("Words of a concept", facts, notes=[f"From: {self.source}"])

    @model_validator(mode="before")
    @classmethod
    def _schema_1(cls, values: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
        """Schema 1 called the replacements ``surrogates``."""
        if not isinstance(values, dict) or "surrogates" not in values:
            return values
        if "replacements" in values:
            raise ValueError("`surrogates` is the old name of `replacements`; give one of them")
        return {("replacements" if key == "surrogates" else key): value for key, value in values.items()}

    @field_validator("contexts", "unrelated_contexts")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return checked_patterns(patterns)

    @classmethod
    def of(cls, words: ConceptWords) -> Self:
        """The word lists of a concept: near, co-occurring and unrelated words are all protected."""
        given = {"contexts": words.contexts, "unrelated_contexts": words.unrelated_contexts}
        return cls(
            source=words.source,
            related=words.related,
            unrelated=words.protected,
            replacements=words.candidates,
            **{name: patterns for name, patterns in given.items() if patterns is not None},
        )

    @classmethod
    def from_file(cls, path: str | Path, concept: str | None = None) -> Self:
        """Read a word file, in YAML or as two lists of words (:mod:`.word_files`).

        Args:
            path: of the file.
            concept: whose words they should be.

        Raises:
            InputError: the file cannot be read, or it names another concept.
        """
        path = Path(path)
        found = read_words(path)
        if concept and found.concept and folded(found.concept) != folded(concept):
            raise InputError(f"{path.name} has the words of {found.concept[:40]!r}, not of {concept!r}.")
        return cls.of(found)

    def guarded(self, name: str) -> Guarded:
        """Without words that must not be protected: those of the concept, repeats and what is no word.

        Args:
            name: of the concept.
        """
        related = usable(self.related)
        own = (name, *related.words)
        unrelated = protectable(self.unrelated, own)
        replacements = protectable(self.replacements, own)
        update = {
            "related": related.words,
            "unrelated": unrelated.words,
            "replacements": replacements.words,
        }
        dropped = (*related.dropped, *unrelated.dropped, *replacements.dropped)
        return Guarded(self.model_copy(update=update), tuple(dict.fromkeys(dropped)))

    @property
    def overlap(self) -> tuple[str, ...]:
        """Words that are in both lists: they would be erased and retained at once."""
        return tuple(sorted(set(self.related) & set(self.unrelated)))

    def resolved(self, name: str) -> Knowledge:
        """Without repeats, with the concept's name first; a word that is both counts as related only.

        Names are compared in any case, with spaces or underscores.

        Raises:
            InputError: no unrelated word is left.
        """
        related = tuple(dict.fromkeys((name, *self.related)))
        own = {folded(word) for word in related}
        unrelated = tuple(word for word in dict.fromkeys(self.unrelated) if folded(word) not in own)
        if not unrelated:
            reason = "nothing would protect the rest of the model"
            raise InputError(f"No unrelated words are left for {name!r}: {reason}.")
        replacements = tuple(word for word in self.replacements if folded(word) not in own)
        return self.model_copy(
            update={"related": related, "unrelated": unrelated, "replacements": replacements}
        )


class Guarded(NamedTuple):
    """Words that passed, and those that did not."""

    words: Knowledge
    dropped: tuple[Dropped, ...]


def _few(values: tuple[str, ...]) -> str:
    more = f" and {len(values) - N_SHOWN} more" if len(values) > N_SHOWN else ""
    return ", ".join(values[:N_SHOWN]) + more
