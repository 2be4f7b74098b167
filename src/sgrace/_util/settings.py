"""Configs from presets and from single settings given as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import InputError, unknown

Config = TypeVar("Config", bound=BaseModel)


def config_from(kind: type[Config], values: Mapping[str, Any], settings: Mapping[str, str] | None = None, what: str = "setting") -> Config:
    """A config with a preset's values, and single settings given as text on top.

    Raises:
        InputError: an unknown setting, with the nearest known one, or a value out of range.
    """
    if settings and not kind.model_fields:
        raise InputError(f"There is no {what}: it takes none.")
    for key in settings or {}:
        if key not in kind.model_fields:
            raise unknown(what, key, kind.model_fields)
    try:
        return kind(**{**values, **(settings or {})})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{what.capitalize()} {where}: {first['msg']} (given {first['input']!r}).") from error


def preset_values(presets: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The values of a named preset.

    Raises:
        InputError: there is no such preset.
    """
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name]
