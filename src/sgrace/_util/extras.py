"""Packages that only some commands need."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import InputError


def require(package: str, extra: str, what: str) -> None:
    """Check for an optional package before any work is done, so that a long run cannot end without its result.

    Args:
        package: name of the module.
        extra: extra of sgrace that installs it.
        what: what needs it, as the start of the error: "The report", "Plots".

    Raises:
        InputError: the package is not installed.
    """
    if find_spec(package) is None:
        raise InputError(f"{what} needs {package}; `pip install 'sgrace[{extra}]'` adds it.")
