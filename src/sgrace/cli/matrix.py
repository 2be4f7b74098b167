"""``sgrace list --matrix``: what each eraser needs and leaves, and where it and each attack run."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._util import registry

if TYPE_CHECKING:
    from ..attacks import Attack
    from ..erasers.base import Eraser

#: Family -> precision -> why something does not run there; empty where it does.
Runs = Mapping[str, Mapping[str, str]]


def rows() -> dict[str, dict[str, Any]]:
    """All erasers and attacks with their facts; ``runs`` says where and why not."""
    erasers = {name: registry.load("erasers", name) for name in registry.names("erasers")}
    attacks = {name: registry.load("attacks", name) for name in registry.names("attacks")}
    return {name: _eraser(plugin) for name, plugin in erasers.items()} | {
        name: {"access": plugin.access, "needs": _needs(plugin), "paper": plugin.paper, "runs": _runs(plugin)}
        for name, plugin in attacks.items()
    }


def _eraser(eraser: type[Eraser[Any]]) -> dict[str, Any]:
    """What an eraser changes with its presets, what it needs and leaves, and where it runs."""
    presets = [eraser.default_preset, *eraser.presets]
    # of all presets, without repeats
    every = [site for name in presets for site in eraser.preset(name, "object").sites]
    sites = list(dict.fromkeys(every))
    left = dict.fromkeys(site if site in {"adapter", "guidance"} else "plain weights" for site in sites)
    return {
        "changes": ", ".join(f"`{site}`" for site in sites),
        "needs": _needs(eraser),
        "leaves": " or ".join(left),
        "paper": eraser.paper,
        "authors' code": eraser.licence,
        "runs": _runs(eraser),
    }


def _needs(plugin: type[Eraser[Any]] | type[Attack[Any]]) -> str:
    from ..models.needs import Need  # noqa: PLC0415  (takes seconds to import)

    return "; ".join(need for need in Need if need in plugin.needs)


def _runs(plugin: type[Eraser[Any]] | type[Attack[Any]]) -> Runs:
    """Where something runs, asked as a run itself asks."""
    from ..models.loading import known_families  # noqa: PLC0415  (takes seconds to import)
    from ..models.needs import LACKS_IN  # noqa: PLC0415

    return {
        family.family: {
            str(dtype).removeprefix("torch."): plugin.refusal(family, dtype) for dtype in LACKS_IN
        }
        for family in known_families()
    }


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of facts and of runs: erasers that change or add weights, those that steer, attacks.

    No file carries guidance, so the second are no rivals of the first.
    """
    attacks = {name: row for name, row in found.items() if "access" in row}
    erasers = {name: row for name, row in found.items() if name not in attacks}
    guided = {name: row for name, row in erasers.items() if row["leaves"] == "guidance"}
    weights = {name: row for name, row in erasers.items() if name not in guided}
    kinds = (("eraser", weights), ("eraser", guided), ("attack", attacks))
    facts = [_facts(kind, part) for kind, part in kinds]
    return "\n\n".join([*facts, _where("eraser", erasers), _where("attack", attacks)])


def _facts(kind: str, part: Mapping[str, Mapping[str, Any]]) -> str:
    heads = [head for head in next(iter(part.values())) if head != "runs"]
    lines = [[f"`{name}`", *(row[head] for head in heads)] for name, row in part.items()]
    return _table([kind, *heads], lines)


def _where(kind: str, part: Mapping[str, Mapping[str, Any]]) -> str:
    """Precisions in which each runs on each family, and below it the reasons against the others by letter."""
    cells = [own for row in part.values() for own in row["runs"].values()]
    every = dict.fromkeys(why for own in cells for why in own.values() if why)
    letters = dict(zip(every, string.ascii_lowercase, strict=False))
    families = list(next(iter(part.values()))["runs"])
    lines = [
        [f"`{name}`", *(_cell(row["runs"][family], letters) for family in families)]
        for name, row in part.items()
    ]
    reasons = [f"- ({letter}) {why}" for why, letter in letters.items()]
    return "\n".join([_table([kind, *families], lines), "", *reasons])


def _cell(own: Mapping[str, str], letters: Mapping[str, str]) -> str:
    able = [dtype for dtype, why in own.items() if not why]
    marks = [f"({letters[why]})" for why in dict.fromkeys(own.values()) if why]
    runs = "all" if len(able) == len(own) else ", ".join(able) or "no"
    return " ".join([runs, *marks[:1]])


def _table(heads: list[str], lines: list[list[str]]) -> str:
    every = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)
