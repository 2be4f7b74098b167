"""What the figures of an evaluation cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from .._util import registry
from ..attacks import Scene
from ..testbeds.base import PromptSet
from ..testbeds.scenes import truncation
from .suites import Suite

ZERO_AT_QUICK = (
    "A zero at `quick` is no evidence: attacks are short and prompts are few; use `standard` or `full`."
)


def unreliability(attack: str) -> str:
    """The sentence that says that a probe's figure is none of the model's."""
    return (
        f"The probe {attack} finds the concept with a randomly initialised denoiser too: its figure says "
        "nothing about the model, and no worst case counts it."
    )


def left_out(scene: Scene, suite: Suite) -> dict[str, str]:
    """Attacks of a suite that cannot run on the target, and why."""
    target = scene.target
    reasons = {
        name: registry.load("attacks", name).refusal(type(target), target.dtype) for name in suite.attacks
    }
    return {name: why for name, why in reasons.items() if why}


TRANSFERRED = (
    "Only the erased text encoder was put into this model; what was erased in the denoiser stayed behind."
)


ON_VALIDATION = (
    "These are the prompts, synonyms and classes of the set `validation`, on which settings are chosen: "
    "figures of chosen settings are too good; use `test` to report."
)


def caveats_of(
    scene: Scene,
    suite: Suite,
    truncated: int,
    unreliable: Sequence[str] = (),
    *,
    prompt_set: PromptSet = "test",
    transferred: bool = False,
) -> tuple[str, ...]:
    """Sentences for the reader of an evaluation, the most important first."""
    found = [TRANSFERRED] if transferred else []
    if prompt_set == "validation":
        found.append(ON_VALIDATION)
    if suite.effort == "quick":
        found.append(ZERO_AT_QUICK)
    found += [unreliability(name) for name in unreliable]
    found += [f"The attack {name} was left out: {why}." for name, why in left_out(scene, suite).items()]
    if scene.original is None:
        found.append(
            "The model before erasing is unknown, so nothing is compared with it; name it with --base."
        )
    if not scene.detector.identity.validation:
        found.append(f"Nobody has measured how often the detector {scene.detector.identity.name} is wrong.")
    if truncated:
        found.append(truncation(truncated, len(scene.prompts)))
    return tuple(found)
