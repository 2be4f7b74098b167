"""What the figures of an evaluation cannot show."""

from __future__ import annotations

from ..attacks import Scene
from ..testbeds.scenes import truncation
from .suites import Suite

ZERO_AT_QUICK = (
    "A zero at `quick` is no evidence: attacks are short and prompts are few; use `standard` or `full`."
)


def caveats_of(scene: Scene, suite: Suite, truncated: int) -> tuple[str, ...]:
    """Sentences for the reader of an evaluation, the most important first."""
    found = []
    if suite.effort == "quick":
        found.append(ZERO_AT_QUICK)
    if scene.original is None:
        found.append(
            "The model before erasing is unknown, so nothing is compared with it; name it with --base."
        )
    if not scene.detector.identity.validation:
        found.append(f"Nobody has measured how often the detector {scene.detector.identity.name} is wrong.")
    if truncated:
        found.append(truncation(truncated, len(scene.prompts)))
    return tuple(found)
