"""The one kind of error that a user's input can cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, told in one clear sentence. The command line prints it and exits with code 2."""


class InputWarning(UserWarning):
    """Input that can be used, though not as it stands. The command line prints it as one line on standard error."""


def unknown(what: str, given: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not among the known ones, with the nearest valid choice."""
    options = sorted(known)
    near = difflib.get_close_matches(given, options, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(options)}."
    return InputError(f"Unknown {what} {given!r}; {hint}")
