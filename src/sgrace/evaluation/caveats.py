"""What the figures of an evaluation cannot show."""

from __future__ import annotations

from ..attacks import Scene
from .suites import Suite


def truncated_prompts(scene: Scene) -> int:
    """Prompts that are longer than the target's text encoder reads: what is too long is cut."""
    room = scene.target.text_length - 2  # start and end token
    return sum(len(scene.target.content_tokens(prompt.text)) > room for prompt in scene.prompts)


def caveats_of(scene: Scene, suite: Suite, truncated: int) -> tuple[str, ...]:
    """Sentences for the reader of an evaluation, the most important first."""
    found = []
    if suite.effort == "quick":
        found.append(
            "A zero at `quick` is no evidence: attacks are short and prompts are few; use `standard` or `full`."
        )
    if scene.original is None:
        found.append("The model before erasing is unknown, so nothing is compared with it; name it with --base.")
    if not scene.detector.identity.validation:
        found.append(f"Nobody has measured how often the detector {scene.detector.identity.name} is wrong.")
    if truncated:
        found.append(truncation(truncated, len(scene.prompts)))
    return tuple(found)


def truncation(truncated: int, n: int) -> str:
    """The sentence on prompts that were cut."""
    return f"{truncated} of {n} prompts are longer than the text encoder reads; their ends were cut."
