"""How long methods take to a given robustness, where a study has several lengths of them."""

from __future__ import annotations

from collections.abc import Sequence

from .lines import Line, timed_alike
from .table import Entry, by_prompt

#: Shares of prompts that an attack by prompt brings back.
GOALS = (0.05, 0.1, 0.2, 0.4)
HEAD = ("seconds until", *(f"at most {goal:.0%} come back" for goal in GOALS))


def method_of(title: str) -> str:
    """Method and preset of a row, without its settings."""
    return title.partition(" (")[0]


def brought_back(line: Line) -> float:
    """Share of prompts that any attack by prompt brings back."""
    return line.shown(by_prompt(list(line.verdicts[0]))).double().mean().item()


def pace_rows(lines: Sequence[Line]) -> list[tuple[Entry, ...]]:
    """The least seconds of each method within a share; none where no method has several settings."""
    methods: dict[str, list[tuple[float, float]]] = {}
    for line, seconds in timed_alike(lines):
        methods.setdefault(method_of(line.title), []).append((seconds, brought_back(line)))
    if all(len(runs) == 1 for runs in methods.values()):
        return []
    return [(Entry(name), *(_least(runs, goal) for goal in GOALS)) for name, runs in methods.items()]


def _least(runs: Sequence[tuple[float, float]], goal: float) -> Entry:
    least = min((seconds for seconds, share in runs if share <= goal), default=None)
    return Entry("never") if least is None else Entry(f"{least:.0f}", least)
