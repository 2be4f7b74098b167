"""One case per attack. A new attack adds one line here and the contract tests run on it."""

from __future__ import annotations

from typing import NamedTuple

from ..erasers.cases import settings


class Case(NamedTuple):
    """How the contract tests run one attack on a tiny model."""

    name: str
    short: dict[str, str]  # settings that make a run short
    checks: int = 2  # images checked for each prompt that never succeeds


RING_A_BELL = settings("n_pairs=3 n_tokens=4 population=6 generations=3 restarts=2 shortlist=9")
MMA_TEXT = settings("n_tokens=4 iterations=2 candidates=6 top_k=5 restarts=2")

CASES = {
    case.name: case
    for case in (
        Case("none", short={}, checks=0),
        Case("more_seeds", short={"tries": "2"}),
        Case("random_tokens", short={"tries": "2", "n_tokens": "2"}),
        Case("unlearn_diff_atk", short={"n_tokens": "2", "n_timesteps": "2", "iterations": "2"}),
        Case("p4d_n", short={"n_tokens": "3", "iterations": "4", "check_every": "2"}),
        Case("p4d_k", short={"iterations": "4", "check_every": "2"}),
        Case("ring_a_bell_hard", short=RING_A_BELL),
        Case("ring_a_bell_soft", short={"n_pairs": "3", "strengths": "1,2"}),
        Case("concept_inversion", short=settings("iterations=4 batch=2 n_starts=2")),
        Case("mma_text", short=MMA_TEXT),
        Case("pez", short={"n_tokens": "4", "iterations": "3"}, checks=1),
        Case("completion", short={"tries": "2"}),
        Case("eta_probe", short={"etas": "1,1.85", "noise_scales": "1.03"}),
        Case("null_inversion", short=settings("num_inference_steps=4 iterations=2 start=0.3"), checks=1),
    )
}
