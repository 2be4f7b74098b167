"""Shapes and types of every annotated function of the package, checked while the tests run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

Function = TypeVar("Function", bound=Callable[..., Any])
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for
# By module, name and signature. A function within a function is made anew by every call of it.
_inner: dict[tuple[str, str, str], Any] = {}


def checked(function: Function) -> Function:
    """The function with its annotations checked at each call.

    It stays as it is where its annotations cannot be checked one function at a time. What jaxtyping gives is
    an empty function of the same signature, so that one does for all functions that are made in one place.
    """
    if "<locals>" not in function.__qualname__:
        return _checked(function)
    key = (function.__module__, function.__qualname__, str(inspect.signature(function)))
    if key not in _inner:
        _inner[key] = _checked(function)
    known: Function = _inner[key]
    return known


def _checked(function: Function) -> Function:
    try:
        return _check(function)
    except BeartypeDecorHintException:  # `Self` outside of a decorated class
        return function
