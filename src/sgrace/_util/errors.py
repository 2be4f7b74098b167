"""The one kind of error that a user's input can cause."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Similarity of a misspelling: "churhc" and "church" have 0.83; "flag" and "flat" (0.75) are two words.
NEAR = 0.78
MAX_NAMES = 12
MAX_GIVEN = 60


class InputError(ValueError):
    """Bad input, told in one clear sentence. The command line prints it and exits with code 2."""


class InputWarning(UserWarning):
    """Input that can be used, though not as it stands.

    The command line prints it as one line on standard error.
    """


def unknown(what: str, given: str, known: Iterable[str]) -> InputError:
    """An error for an unknown name; it suggests the nearest known name or lists the choices."""
    return InputError(f"Unknown {what} {given[:MAX_GIVEN]!r}; {choices(given, known)}")


def choices(given: str, known: Iterable[str]) -> str:
    """What to choose instead: the name that was misspelt, else at most twelve of the known names."""
    options = sorted(known)
    near = _nearest(given[:MAX_GIVEN], options)
    if near is not None:
        return f"did you mean {near!r}?"
    if len(options) <= MAX_NAMES:
        return f"choose one of: {', '.join(options)}."
    return f"there are {len(options)} to choose from, such as {', '.join(options[:MAX_NAMES])}."


def _nearest(given: str, options: list[str]) -> str | None:
    """The option that a name most likely stands for: same letters, a likely misspelling, or its beginning."""
    by_fold = {_folded(option): option for option in reversed(options)}
    wanted = _folded(given)
    near = difflib.get_close_matches(wanted, by_fold, n=1, cutoff=NEAR)  # an equal name has similarity 1
    swapped = [fold for fold in by_fold if sorted(fold) == sorted(wanted)]
    begun = [fold for fold in by_fold if len(wanted) >= 3 and fold.startswith(wanted)]
    found = [*near, *swapped, *sorted(begun, key=len)]
    return by_fold[found[0]] if found else None


def _folded(name: str) -> str:
    """A name without case, white space, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())
