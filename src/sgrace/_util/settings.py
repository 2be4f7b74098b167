"""Configs from presets and from single settings given as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import MAX_GIVEN, InputError, choices, unknown

Config = TypeVar("Config", bound=BaseModel)


class Settings(BaseModel):
    """Base of all settings: they do not change, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_pairs(pairs: Iterable[str], option: str = "--set") -> dict[str, str]:
    """``KEY=VALUE`` texts as a dictionary.

    Args:
        pairs: as given on the command line.
        option: the option that took them, for the error.

    Raises:
        InputError: a text is not of this form, or a key comes twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not key or not equals:
            raise InputError(f"{option} takes KEY=VALUE, not {pair[:MAX_GIVEN]!r}.")
        if key in found:
            raise InputError(f"{option} gives {key!r} twice; give it once.")
        found[key] = value
    return found


def listed(given: object) -> object:
    """The parts of a text that are separated by commas; whatever is no text, as it is."""
    return given.split(",") if isinstance(given, str) else given


def config_from(
    kind: type[Config],
    values: Mapping[str, Any],
    settings: Mapping[str, str] | None = None,
    what: str = "setting",
    owner: str = "",
) -> Config:
    """A config with a preset's values, and single settings given as text on top.

    Args:
        kind: class of the config.
        values: of the preset.
        settings: single values as text.
        what: what one of them is called in errors: "setting", "limit", "option".
        owner: what they belong to, for errors: "attack 'pez'".

    Raises:
        InputError: an unknown setting, with the nearest known one, or a value out of range.
    """
    known = kind.model_fields
    for key in settings or {}:
        if key not in known:
            raise _unknown_setting(what, owner, key, known)
    try:
        config = kind(**{**values, **(settings or {})})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = f"{first['msg']} (given {str(first['input'])[:MAX_GIVEN]!r})"
        raise InputError(f"{what.capitalize()} {where}{_of(owner)}: {message}.") from error
    for name, field in known.items():
        value = getattr(config, name)
        if value != field.default and not all(math.isfinite(number) for number in _floats(value)):
            raise InputError(f"{what.capitalize()} {name}{_of(owner)}: {value} is not a finite number.")
    return config


def preset_values(presets: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The values of a named preset.

    Raises:
        InputError: there is no such preset.
    """
    if name not in presets:
        raise unknown("preset", name, presets)
    return presets[name]


def _unknown_setting(what: str, owner: str, key: str, known: Iterable[str]) -> InputError:
    if not owner:
        return unknown(what, key, known)
    start = owner[0].upper() + owner[1:]
    if not list(known):
        return InputError(f"{start} has no {what}s.")
    return InputError(f"{start} has no {what} {key[:MAX_GIVEN]!r}; {choices(key, known)}")


def _of(owner: str) -> str:
    return f" of {owner}" if owner else ""


def _floats(value: Any) -> list[float]:  # noqa: ANN401  (any field)
    """The floating-point numbers in a value, also within sequences."""
    if isinstance(value, list | tuple):
        return [number for item in value for number in _floats(item)]
    return [value] if isinstance(value, float) else []
