"""Shapes and types of every annotated function of the package, checked while the tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

Function = TypeVar("Function", bound=Callable[..., Any])
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for


def checked(function: Function) -> Function:
    """The function with its annotations checked at each call.

    It stays as it is where its annotations cannot be checked one function at a time.
    """
    try:
        return _check(function)
    except BeartypeDecorHintException:  # `Self` outside of a decorated class
        return function
