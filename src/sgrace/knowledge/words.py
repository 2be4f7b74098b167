"""Word lists of a concept and their repair."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from .._util.errors import InputError

MAX_FILE_BYTES = 1_000_000
OBJECT_CONTEXTS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")


class Knowledge(BaseModel):
    """Word lists of one concept.

    Attributes:
        source: where the words come from.
        related: words that name or describe the concept.
        unrelated: words that must keep their meaning.
        surrogates: candidates for the concept that takes its place.
        contexts: prompt patterns with one ``{}`` for a word of the concept.
        unrelated_contexts: prompt patterns with one ``{}`` for an unrelated word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    related: tuple[str, ...]
    unrelated: tuple[str, ...]
    surrogates: tuple[str, ...] = ()
    contexts: tuple[str, ...] = OBJECT_CONTEXTS
    unrelated_contexts: tuple[str, ...] = OBJECT_CONTEXTS

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the layout of the published word files: related words one a line (or comma-separated), a blank line, unrelated words.

        Raises:
            InputError: the file is missing, is not UTF-8 text, is larger than 1 MB, or lacks one of the lists.
        """
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise InputError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes: not a word list.")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"Cannot read {path} as a text file of words.") from error
        parts = [part for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]
        if len(parts) != 2:
            raise InputError(f"{path} must hold related words, a blank line, then unrelated words; it has {len(parts)} blocks.")
        lists = [tuple(_clean(word) for word in part.replace("\n", ",").split(",") if _clean(word)) for part in parts]
        return cls(source=f"file {path.name}", related=lists[0], unrelated=lists[1], surrogates=lists[1])

    @property
    def overlap(self) -> tuple[str, ...]:
        """Words that are in both lists: anchors that would fight the erasure."""
        return tuple(sorted(set(self.related) & set(self.unrelated)))

    def resolved(self, name: str) -> Knowledge:
        """Without repeats, with the concept's name first, and with every word that is both counted as related only."""
        related = tuple(dict.fromkeys((name, *self.related)))
        unrelated = tuple(word for word in dict.fromkeys(self.unrelated) if word not in related)
        if not unrelated:
            raise InputError(f"No unrelated words are left for {name!r}: nothing would protect the rest of the model.")
        return self.model_copy(update={"related": related, "unrelated": unrelated})


def _clean(word: str) -> str:
    return " ".join(word.strip(" \t.;:!?\"'").lower().split())
