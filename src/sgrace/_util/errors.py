"""The one kind of error that a user's input can cause."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: Similarity of a misspelling: "churhc" and "church" have 0.83; "flag" and "flat" (0.75) are two words.
NEAR = 0.78
#: Shortest words of which a slip is told from another word: two letters exchanged, and other slips.
SWAPPED, LONG = 6, 8
MAX_NAMES = 12
MAX_GIVEN = 60


class InputError(ValueError):
    """Bad input, told in one clear sentence. The command line prints it and exits with code 2.

    The sentence may quote what somebody else wrote: what cannot be printed, such as the codes that move a
    terminal's cursor, is shown as "?".
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else "?" for c in super().__str__())


class InputWarning(UserWarning):
    """Input that can be used, though not as it stands.

    The command line prints it as one line on standard error.
    """


def unknown(what: str, given: str, known: Iterable[str], *, are_words: bool = False) -> InputError:
    """An error for an unknown name; it suggests the nearest known name or lists the choices.

    Where names are words of the language, one is easily another with a letter changed (flag, flat), so only
    an evident slip counts.
    """
    return InputError(f"Unknown {what} {given[:MAX_GIVEN]!r}; {choices(given, known, are_words=are_words)}")


def choices(given: str, known: Iterable[str], *, are_words: bool = False) -> str:
    """What to choose instead: the name that was misspelt, else at most twelve of the known names."""
    options = sorted(known)
    near = (_slip if are_words else _nearest)(given[:MAX_GIVEN], options)
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


def _slip(given: str, options: list[str]) -> str | None:
    """The option of which a name is a plural or a singular, or from which it differs by one typing slip."""
    wanted = _folded(given)
    by_fold = {_folded(option): option for option in reversed(options)}
    found = [fold for fold in by_fold if fold in {wanted, wanted + "s", wanted.removesuffix("s")}]
    found += [fold for fold in by_fold if _is_slip(wanted, fold)]
    return by_fold[found[0]] if found else None


def _is_slip(given: str, meant: str) -> bool:
    """Two neighbouring letters exchanged, or in a long word one letter more, less or another."""
    long, short = sorted((given, meant), key=len, reverse=True)
    same = [a == b for a, b in zip(long, short, strict=False)]
    first = same.index(False) if False in same else len(short)
    if len(long) == len(short) >= SWAPPED and long[first : first + 2] == short[first : first + 2][::-1]:
        return long[first + 2 :] == short[first + 2 :]
    behind = short[first:] if len(long) > len(short) else short[first + 1 :]
    return len(long) >= LONG and len(long) - len(short) <= 1 and long[first + 1 :] == behind


def _folded(name: str) -> str:
    """A name without case, white space, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())
