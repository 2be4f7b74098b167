"""Phases of erasers: which settings make a run one step longer, and how many steps a preset has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sgrace._util import registry
from sgrace.concept import Kind


class Phase(NamedTuple):
    """A part of a run whose cost grows with settings.

    Attributes:
        name: for the table.
        more: what is added to settings.
        times: steps of the whole run that the base has not.
        by: steps that the addition makes.
    """

    name: str
    more: Mapping[str, int]
    times: int
    by: int = 1

    def longer_by(self, n: int) -> Phase:
        """The same phase with `n` times the addition."""
        return self._replace(more={key: n * more for key, more in self.more.items()}, by=n * self.by)

    def settings(self, base: Mapping[str, int]) -> dict[str, int]:
        """The settings of a run that is longer by this phase."""
        return {**base, **{key: base.get(key, 0) + more for key, more in self.more.items()}}


class Phases(NamedTuple):
    """Phases, and the settings of the shortest run."""

    phases: list[Phase]
    base: Mapping[str, int]


def sgrace_phases(config: Any) -> Phases:  # noqa: ANN401  (settings of any eraser)
    """Attack and training steps of the text stage, and of the second stage where there is one."""
    phases: list[Phase] = []
    # two rounds: from the second on, the optimizer's moments lie beside an attack
    rounds = min(2, config.rounds)
    base = {"rounds": rounds, "attack_steps": 0, "edit_steps": 1, "denoiser_steps": 0}
    if rounds:
        n_attacks, n_edits = config.rounds * config.attack_steps, config.rounds * config.edit_steps
        phases.append(Phase("attack step", {"attack_steps": 1}, n_attacks, by=rounds))
        # one of so many reads the padding
        every = config.padding_every
        phases.append(Phase("edit step", {"edit_steps": every}, n_edits - rounds, by=rounds * every))
        if config.retain_draw == "pool":
            base["retain_pool"] = 8
            phases.append(Phase("retain prompt", {"retain_pool": 16}, config.retain_pool - 8, by=16))
    if config.denoiser_steps:
        base |= {"denoiser_steps": 1, "concept_images": 2, "path_prompts": 8, "retain_pool": 8}
        phases += [
            Phase("denoiser step", {"denoiser_steps": 1}, config.denoiser_steps - 1),
            Phase("concept image", {"concept_images": 2}, config.concept_images - 2, by=2),
            Phase("sampling path", {"path_prompts": 2}, config.path_prompts - 8, by=2),
        ]
    return Phases(phases, base)


def adv_unlearn_phases(config: Any) -> Phases:  # noqa: ANN401
    """Steps with an attack, further steps of it, the warm-up, and the partial samples."""
    n_attacked = config.iterations - config.warm_up
    base = {"iterations": 1, "warm_up": 0, "attack_steps": 1, "pool": 2, "n_retain": 1}
    phases = [
        Phase("step with one attack step", {"iterations": 1}, n_attacked - 1),
        Phase("attack step", {"attack_steps": 1}, n_attacked * (config.attack_steps - 1)),
        Phase("step of the warm-up", {"iterations": 1, "warm_up": 1}, config.warm_up),
        # one of the concept and one of the retain prompts
        Phase("two partial samples", {"pool": 2}, config.pool - 2, by=2),
    ]
    return Phases(phases, base)


def other_phases(config: Any) -> Phases:  # noqa: ANN401
    """Iterations; all else is as in the preset."""
    if not hasattr(config, "iterations"):
        return Phases([], {})
    return Phases([Phase("iteration", {"iterations": 1}, config.iterations - 1)], {"iterations": 1})


PHASES: Mapping[str, Callable[[Any], Phases]] = {"sgrace": sgrace_phases, "adv_unlearn": adv_unlearn_phases}


def phases_of(what: str, kind: Kind) -> Phases:
    """Those of an eraser, named as NAME or NAME:PRESET."""
    method, _, preset = what.partition(":")
    config = registry.load("erasers", method).preset(preset or None, kind).config
    return PHASES.get(method, other_phases)(config)
