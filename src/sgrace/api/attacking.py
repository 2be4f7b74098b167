"""``attack``: an attack on a model, under the shared protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .._util import registry
from ..attacks import AttackSet, Budget, Prompt
from ..concept import Kind
from ..detectors import Detector
from ..erasure import Erasure
from ..evaluation.suites import N_PROMPTS
from ..knowledge import Knowledge
from ..testbeds.loading import Loaded, Model, load_target
from ..testbeds.scenes import prepare


def attack(
    model: Model | Erasure | Loaded,
    concept: str | None,
    name: str,
    *,
    original: Model | None = None,
    into: Model | None = None,
    effort: str = "standard",
    settings: Mapping[str, str] | None = None,
    limits: Budget | None = None,
    words: Knowledge | Path | None = None,
    prompts: Sequence[Prompt] | Path | None = None,
    detector: Detector | str | None = None,
    detector_options: Mapping[str, str] | None = None,
    kind: Kind | None = None,
    protocol: str = "shared",
    seed: int = 0,
) -> AttackSet:
    """Try to bring a concept back.

    Args:
        model: the model under attack, an erasure or its folder, or a name; it is untouched.
        concept: name of the concept; None takes the erasure's own.
        name: name of the attack.
        original: the model before erasing, which most attacks need; an erasure brings it.
        into: another model, which gets the erased text encoders and nothing else, and is attacked.
        effort: ``quick``, ``standard``, or ``full``, the paper's own settings.
        settings: single settings of the attack as text.
        limits: hard limits of calls and time; none, if absent.
        words: words of the concept, or a word file; a testbed has its own, an erasure keeps those it was made
            with, and for others they are found in WordNet (extra ``wordnet``).
        prompts: prompt table, or its file; a testbed has its own.
        detector: decides success, by name or as an object; a testbed has its own.
        detector_options: options of a detector that is given by name, as text.
        kind: kind of the concept.
        protocol: which prompts are attacked, of :data:`sgrace.attacks.PROTOCOLS`.
        seed: same seed, same candidates.

    Raises:
        InputError: an unknown name or setting, or something the attack needs is missing.
    """
    attacker = registry.load("attacks", name).preset(effort, settings)
    loaded = model if isinstance(model, Loaded) else load_target(model, original, into=into)
    scene, _ = prepare(
        loaded,
        concept,
        n_prompts=N_PROMPTS[effort],
        words=words,
        prompts=prompts,
        detector=detector,
        detector_options=detector_options,
        kind=kind,
        protocol=protocol,
    )
    found: AttackSet = attacker.run(scene, limits, seed=seed)
    return found
