"""Word lists of a concept and their repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .._util.errors import InputError
from ..concept import folded
from .word_files import read_words

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
        if bad := [pattern for pattern in patterns if pattern.count("{}") != 1]:
            raise ValueError(f"a prompt pattern has one {{}} for the word, unlike {bad[0]!r}")
        return patterns

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a word file: related words, a blank line, unrelated words (:func:`.word_files.read_words`).

        Raises:
            InputError: the file cannot be read as two lists of words.
        """
        related, unrelated = read_words(path)
        return cls(source=f"file {path.name}", related=related, unrelated=unrelated, replacements=unrelated)

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
