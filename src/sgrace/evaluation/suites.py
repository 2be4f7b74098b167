"""How much is measured: named suites."""

from __future__ import annotations

from dataclasses import dataclass

CONTROLS = ("none", "random_tokens", "more_seeds")
BY_PROMPT = ("unlearn_diff_atk", "p4d_n", "p4d_k", "ring_a_bell_hard")
BY_WEIGHTS = ("ring_a_bell_soft", "concept_inversion")
PROBES = ("completion", "eta_probe", "null_inversion")


@dataclass(frozen=True)
class Suite:
    """How much is measured.

    Attributes:
        attacks: names of the attacks.
        effort: of the attacks: ``quick``, ``standard`` or ``full``, the paper's own.
        n_prompts: number of a testbed's prompts that are attacked; a given prompt table is attacked as a
            whole.
        n_images: images per retention question.
        n_space: prompts per group of the concept space; 0 skips it.
    """

    attacks: tuple[str, ...]
    effort: str
    n_prompts: int
    n_images: int
    n_space: int


_FULL = (*CONTROLS, *BY_PROMPT, "mma_text", "pez", *BY_WEIGHTS, *PROBES)
N_PROMPTS = {"quick": 12, "standard": 24, "full": 48}

SUITES = {
    # shows that everything runs; its figures say nothing of a model
    "smoke": Suite(("none", "ring_a_bell_soft"), "quick", 4, 4, 0),
    "quick": Suite((*CONTROLS, *BY_PROMPT, *BY_WEIGHTS), "quick", N_PROMPTS["quick"], 32, 0),
    "standard": Suite(_FULL, "standard", N_PROMPTS["standard"], 96, 100),
    "full": Suite(_FULL, "full", N_PROMPTS["full"], 200, 200),
}
