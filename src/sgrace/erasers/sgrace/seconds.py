"""Seconds that each phase of a run takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Seconds:
    """Seconds by phase, added up."""

    by_phase: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Count what is done inside for a phase."""
        started = time.monotonic()
        yield
        self.by_phase[phase] = self.by_phase.get(phase, 0.0) + time.monotonic() - started

    def rounded(self) -> dict[str, float]:
        """For the recipe."""
        return {phase: round(seconds, 1) for phase, seconds in self.by_phase.items()}
