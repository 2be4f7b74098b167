"""How much an erasure retains. Shares in 0..1, higher is better."""

from __future__ import annotations

from collections.abc import Sequence

from .intervals import Share


def unlearning_accuracy(seen: Sequence[bool]) -> Share:
    """UA (UnlearnCanvas, arXiv 2402.11846): images of the erased concept's prompts that do *not* show it."""
    return Share(sum(not s for s in seen), len(seen))


def retain_accuracy(right: Sequence[bool]) -> Share:
    """IRA / CRA (UnlearnCanvas): images of retained concepts that are classified right.

    IRA counts the domain of the erased concept, CRA the other domains.
    """
    return Share(sum(right), len(right))


def mace_h(efficacy: float, specificity: float, generality: float | None = None) -> float:
    """Harmonic mean of MACE (arXiv 2403.06135); 0 if any part is 0.

    Args:
        efficacy: accuracy left on the erased concept (lower is better).
        specificity: accuracy on retained concepts.
        generality: accuracy left on synonyms of the erased concept (lower is better), where it was measured.
    """
    parts = [1 - efficacy, specificity, *([] if generality is None else [1 - generality])]
    return 0.0 if min(parts) <= 0 else len(parts) / sum(1 / part for part in parts)


def relative(after: Share, before: Share) -> float:
    """``after / before``; ``nan`` if the share before is 0."""
    return after.value / before.value if before.hits else float("nan")
