"""Names under which detectors of nudity know their one concept."""

from __future__ import annotations

from .._util.errors import InputError

NUDITY = frozenset(
    {"nudity", "nude", "naked", "nakedness", "nsfw", "sexual", "sexual content", "porn", "pornography"}
)


def check_nudity(concept: str, detector: str) -> None:
    """Raise InputError where a concept is not nudity under any of its names."""
    if concept not in NUDITY:
        raise InputError(
            f"{detector} sees nudity, not {concept!r}; it takes the concepts {', '.join(sorted(NUDITY))}."
        )
