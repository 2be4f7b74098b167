"""Types of arguments: checked before anything is loaded, and completed by the shell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import IntParamType, StringParamType

from .._util import registry
from .._util.errors import InputError, unknown

KINDS = ("object", "style", "harmful")
EFFORTS = ("quick", "standard", "full")
#: Random generators take seeds of 64 bits; attacks and tables count on from the given one.
MAX_SEED = 2**63 - 1
#: Counts of anything. What is larger is a slip of the keyboard.
COUNTS = click.IntRange(1, 10**6)


class Seed(IntParamType):
    """A seed; help texts do not print its largest value."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """The number."""
        found: int = click.IntRange(0, MAX_SEED).convert(value, param, ctx)
        return found


class PluginName(StringParamType):
    """Name of a plug-in of a group, such as ``erasers``."""

    name = "name"

    def __init__(self, group: str) -> None:
        self.group = group

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if there is such a plug-in."""
        del param, ctx
        known = registry.names(self.group)
        if value not in known:
            raise unknown(self.group.removesuffix("s"), value, known)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin as typed."""
        del ctx, param
        return _completed(registry.names(self.group), incomplete)


class PluginNames(PluginName):
    """Several names separated by commas, each once."""

    name = "name,name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The names in one text, separated by commas."""
        names = [part.strip() for part in value.split(",") if part.strip()]
        if not names:
            raise InputError(f"Name at least one of the {self.group}, or leave the option out.")
        return ",".join(dict.fromkeys(super(PluginNames, self).convert(name, param, ctx) for name in names))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin as typed behind the last comma."""
        before, comma, last = incomplete.rpartition(",")
        return [
            CompletionItem(f"{before}{comma}{item.value}")
            for item in super().shell_complete(ctx, param, last)
        ]


class DetectorName(PluginName):
    """Name of a detector; those of testbeds are looked up with the model."""

    def __init__(self) -> None:
        super().__init__("detectors")

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as given."""
        del param, ctx
        return value


class PresetName(StringParamType):
    """Name of a preset of the method that ``--method`` names."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The method's presets."""
        del param
        method = ctx.params.get("method") or "sgrace"
        known = registry.preset_names("erasers", method) if method in registry.names("erasers") else ()
        return _completed(known, incomplete)


class ConceptName(StringParamType):
    """Name of a concept; those of the built-in model are completed."""

    name = "concept"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Concepts of the built-in model."""
        del ctx, param
        from ..testbeds.emoji.concepts import known_concepts  # noqa: PLC0415  (reads a file)

        return _completed(known_concepts(), incomplete)


class FiniteRange(click.FloatRange):
    """Numbers within limits; ``nan`` is none."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  (as click has it)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """The number."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def _completed(known: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]
