"""How much is measured: three named suites."""

from __future__ import annotations

from dataclasses import dataclass

CONTROLS = ("none", "random_tokens", "more_seeds")
BY_PROMPT = ("unlearn_diff_atk", "p4d_n", "p4d_k", "ring_a_bell_hard")
BY_WEIGHTS = ("ring_a_bell_soft", "concept_inversion")


@dataclass(frozen=True)
class Suite:
    """Attacks and their length, pictures per retention question, prompts per set of the concept space (0: not measured)."""

    attacks: tuple[str, ...]
    length: str
    n_pictures: int
    n_space: int


SUITES = {
    "quick": Suite((*CONTROLS, *BY_PROMPT, *BY_WEIGHTS), "quick", 32, 0),
    "standard": Suite((*CONTROLS, *BY_PROMPT, "mma_text", "pez", *BY_WEIGHTS, "noise_probe"), "standard", 96, 100),
    "full": Suite((*CONTROLS, *BY_PROMPT, "mma_text", "pez", *BY_WEIGHTS, "noise_probe"), "full", 200, 200),
}
