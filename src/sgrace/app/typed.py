"""What comes from a page: text and numbers that anybody may have typed, checked before any work."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, get_args

from .._util.errors import InputError, unknown
from ..concept import Concept, Kind

MAX_TEXT = 40_000
#: Of a table of prompts; the rest of a request has room beside it.
MAX_TABLE = 150_000
MAX_WORDS = 1000
#: Seeds that a browser's numbers hold exactly.
MAX_SEED = 2**53 - 1
#: What separates words in a text box.
_SEPARATORS = re.compile(r"[\n,;]")


class Effort(NamedTuple):
    """How long erasing takes, by a name that people choose.

    Attributes:
        label: as the page shows it.
        preset: of S-GRACE.
        settings: on top of the preset.
        n_images: images of each question that is asked before and after.
        weak: whether what it leaves is no safe model.
    """

    label: str
    preset: str | None
    settings: Mapping[str, str]
    n_images: int
    weak: bool = False


#: A quick look shows how it goes.
EFFORTS = {
    "look": Effort(
        "Quick look: seconds, weak",
        None,
        {
            "rounds": "3",
            "attack_steps": "1",
            "edit_steps": "20",
            "n_adversarial": "8",
            "n_retain": "24",
            "retain_pool": "256",
            "num_inference_steps": "20",
            "lr": "0.0006",
        },
        6,
        weak=True,
    ),
    "standard": Effort("Standard: a minute on the built-in model", None, {}, 48),
    "full": Effort("Full: for weights that are given away, many minutes", "full", {}, 48),
}


def one_of(value: object, what: str, known: Collection[str]) -> str:
    """A name, if it is among the known ones.

    Raises:
        InputError: it is not, or no text.
    """
    if not isinstance(value, str) or value not in known:
        raise unknown(what, str(value), known)
    return value


def effort_of(value: object) -> Effort:
    """The effort of a name.

    Raises:
        InputError: there is none.
    """
    return EFFORTS[one_of(value, "effort", EFFORTS)]


def text(value: object, what: str, most: int = MAX_TEXT) -> str:
    """A text of bearable length.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, str):
        raise InputError(f"The {what} must be a text.")
    if len(value) > most:
        raise InputError(f"The {what} is longer than {most:,} characters.")
    return value


def concept_of(value: object, kind: object) -> Concept:
    """The concept of a typed name.

    Args:
        value: the name.
        kind: ``object``, ``style`` or ``harmful``; anything empty where nobody said.

    Raises:
        InputError: it is no concept's name, or there is no such kind.
    """
    stated = one_of(kind, "kind of concept", get_args(Kind)) if kind else None
    if not (name := text(value or "", "concept").strip()):
        raise InputError("Name the concept first: choose one from the list, or type it.")
    chosen: Any = stated
    return Concept.parse(name, chosen)


def words_of(value: object, what: str) -> tuple[str, ...]:
    """Words of a text box, one a line or separated by commas, each once.

    Raises:
        InputError: there are too many.
    """
    parts = [" ".join(part.split()) for part in _SEPARATORS.split(text(value or "", what))]
    found = tuple(dict.fromkeys(part for part in parts if part))
    if len(found) > MAX_WORDS:
        raise InputError(f"The {what} are {len(found):,}; the most are {MAX_WORDS:,}.")
    return found


def seed_of(value: object) -> int:
    """A seed.

    Raises:
        InputError: it is no whole number from 0 on that a browser holds exactly.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number <= MAX_SEED or number != int(number):
        raise InputError(f"A seed is a whole number from 0 to {MAX_SEED:,}, not {str(value)[:40]!r}.")
    return int(number)


def strength_of(value: object) -> float:
    """A strength.

    Raises:
        InputError: it is no number from 0 to 1.
    """
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
    if not 0 <= number <= 1:
        raise InputError(f"The strength is a number from 0 to 1, not {str(value)[:40]!r}.")
    return number
