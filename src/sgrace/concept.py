"""What is to be erased. Data only: this module imports no torch."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator

from ._util.errors import InputError

MAX_LENGTH = 80
Kind = Literal["object", "style", "harmful"]
_TEMPLATES = {"object": "a photo of {}", "style": "a picture of {}", "harmful": "{}"}


class Concept(BaseModel):
    """A concept by its name; any name that a text encoder can read.

    Attributes:
        name: one to 80 printable characters with at least one letter, lower-cased, white space folded.
        kind: decides the prompt that shows the concept: "a photo of church", "a picture of line art", "weapon".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind = "object"

    @field_validator("name")
    @classmethod
    def _readable(cls, name: str) -> str:
        folded = re.sub(r"\s+", " ", name).strip().lower()
        if not 1 <= len(folded) <= MAX_LENGTH or not folded.isprintable() or not any(c.isalpha() for c in folded):
            raise InputError(f"A concept is a name of 1 to {MAX_LENGTH} printable characters with a letter in it, not {name[:40]!r}.")
        return folded

    @classmethod
    def parse(cls, name: str, kind: Kind = "object") -> Self:
        """Build from user input.

        Raises:
            InputError: the name is empty, too long, unprintable or has no letter.
        """
        cls._readable(name)  # pydantic would wrap the error in its own report
        return cls(name=name, kind=kind)

    @property
    def prompt(self) -> str:
        """The prompt that shows the concept (arXiv 2510.27285, version 1)."""
        return _TEMPLATES[self.kind].format(self.name)
