"""What is to be erased. Data only: this module imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ._util.errors import InputError, unknown

MAX_LENGTH = 80
Kind = Literal["object", "style", "harmful"]
_TEMPLATES = {"object": "a photo of {}", "style": "a picture of {}", "harmful": "{}"}
#: What separates concepts in a list. No name holds one of them.
_SEPARATORS = re.compile(r"[,;|\n，、；]")  # noqa: RUF001  (also the separators of Chinese and Japanese)


def folded(name: str) -> str:
    """The form in which names are compared: lower case, with underscores and white space as one space."""
    return re.sub(r"[_\s]+", " ", name).strip().lower()


class Concept(BaseModel):
    """A concept by its name; any name that a text encoder can read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description=f"1 to {MAX_LENGTH} printable characters with a letter among them. "
        "Stored in lower case, with underscores and white space as one space."
    )
    kind: Kind | None = Field(
        None,
        description='Decides the prompt: "a photo of X" (object), "a picture of X" (style), "X" (harmful). '
        "None where nobody stated it: prompts are those of an object, and images are blurred.",
    )

    @field_validator("name")
    @classmethod
    def _readable(cls, name: str) -> str:
        found = folded(name)
        has_letter = any(c.isalpha() for c in found)
        if not 1 <= len(found) <= MAX_LENGTH or not found.isprintable() or not has_letter:
            rule = f"1 to {MAX_LENGTH} printable characters with a letter in it"
            raise InputError(f"A concept is a name of {rule}, not {name[:40]!r}.")
        return found

    @classmethod
    def parse(cls, name: str | Self, kind: Kind | None = None) -> Self:
        """Build from user input; what is a concept already only takes the kind.

        Raises:
            InputError: the name is no text, empty, too long, unprintable, without a letter or several names;
                or the kind is unknown.
        """
        if isinstance(name, Concept):
            return name if kind is None else name.model_copy(update={"kind": kind})
        if not isinstance(name, str):
            raise InputError(f"A concept is given by its name, a text, not by {str(name)[:40]!r}.")
        if _SEPARATORS.search(name.strip()):
            raise InputError(
                f"{name[:80]!r} lists several concepts; name them separately, one argument each."
            )
        if kind is not None and kind not in get_args(Kind):
            raise unknown("kind of concept", str(kind), get_args(Kind))
        cls._readable(name)  # pydantic would wrap the error in its own report
        return cls(name=name, kind=kind)

    def __str__(self) -> str:
        return self.name

    @property
    def template_kind(self) -> Kind:
        """The kind that chooses prompt templates: ``object`` where the concept's own is unknown."""
        return self.kind or "object"

    @property
    def blurred(self) -> bool:
        """Whether images that show it are blurred: for harmful concepts, and where the kind is unknown."""
        return self.kind in {None, "harmful"}

    @property
    def prompt(self) -> str:
        """The prompt that shows the concept (arXiv 2510.27285, version 1)."""
        return _TEMPLATES[self.template_kind].format(self.name)


def parse_concepts(names: str | Sequence[str | Concept], kind: Kind | None = None) -> list[Concept]:
    """Concepts from user input, in the given order; a name that is given twice counts once.

    Args:
        names: one name, or several.
        kind: of all of them; None if it is unknown.

    Raises:
        InputError: no name, one that is no concept's name, or several names in one text.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Sequence) or not names:
        raise InputError("Name at least one concept, as a text or a list of texts.")
    found = [Concept.parse(name, kind) for name in names]
    return list(dict.fromkeys(found))
