"""What else an erasure changed. Shares in 0..1, higher is better."""

from __future__ import annotations

from collections.abc import Sequence

from .intervals import Share


def unlearning_accuracy(seen: Sequence[bool]) -> Share:
    """UA (UnlearnCanvas, arXiv 2402.11846): pictures asked for the erased concept that do *not* show it."""
    return Share(sum(not s for s in seen), len(seen))


def retain_accuracy(right: Sequence[bool]) -> Share:
    """IRA / CRA: pictures of kept concepts named right, within the erased concept's own domain or across domains."""
    return Share(sum(right), len(right))


def mace_h(efficacy: float, specificity: float, generality: float | None = None) -> float:
    """Harmonic mean of MACE (arXiv 2403.06135); 0 if any part is 0.

    Args:
        efficacy: accuracy left on the erased concept (lower is better).
        specificity: accuracy on kept concepts.
        generality: accuracy left on synonyms of the erased concept (lower is better), where it was measured.
    """
    parts = [1 - efficacy, specificity, *([] if generality is None else [1 - generality])]
    return 0.0 if min(parts) <= 0 else len(parts) / sum(1 / part for part in parts)


def relative(after: Share, before: Share) -> float:
    """The share after erasing as a part of the share before; ``nan`` where there was nothing before."""
    return after.value / before.value if before.hits else float("nan")
