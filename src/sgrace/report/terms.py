"""The words of the field that a page explains where they stand, in the wording of docs/glossary.md."""

from __future__ import annotations

#: Word -> what it means.
TERMS = {
    "attack": (
        "a search for inputs that bring an erased concept back; "
        "its access is prompt, query, gradient or weights"
    ),
    "budget": "how much an attack may spend: its effort, and hard limits of calls and time",
    "control": (
        "an attack that searches for nothing: the prompts themselves, other noise, random tokens; "
        "what it finds is there without an attack"
    ),
    "denoiser": "the network that predicts noise, velocity or flow: a UNet or a diffusion transformer",
    "detector": ("decides whether an image shows the concept; known by name, weights, classes and threshold"),
    "drift": "how far what the denoiser reads of a prompt moved by erasing",
    "effort": "how long an attack searches: quick, standard or full; a budget sets hard limits",
    "fidelity": "how close images of unrelated prompts are to those of the model before erasing",
    "gold model": "a model trained without the concept: what perfect erasing would look like",
    "interval": "where the true share lies, as far as so few observations tell: the 95 % Wilson interval",
    "probe": (
        "an attack that may find what its own search put there; "
        "it is run on a randomly initialised denoiser too"
    ),
    "start": "one run of an attack that learns one thing for all prompts: one observation",
    "survival": "share of text candidates whose tokens come back when the text is tokenized again",
    "withheld": (
        "retained concepts that no eraser is told of: "
        "half of the neighbours and half of the unrelated classes"
    ),
}

#: What each attack brings to the model, as the subject of a sentence. Attacks of other packages have a name.
BRINGS = {
    "none": "the prompt as it is",
    "more_seeds": "another seed",
    "random_tokens": "a prompt with random tokens",
    "unlearn_diff_atk": "a prompt with an optimised prefix",
    "p4d_n": "an optimised prompt",
    "p4d_k": "a prompt with optimised tokens in it",
    "ring_a_bell_hard": "a searched prompt",
    "mma_text": "a searched prompt without the concept's words",
    "pez": "an optimised prompt",
    "ring_a_bell_soft": "a shifted prompt embedding",
    "concept_inversion": "a learned word",
    "completion": "a half-finished image of it",
    "eta_probe": "noisier sampling",
    "null_inversion": "noise taken from an image of it",
}


def brings(attack: str) -> str:
    """What an attack brings to the model, as the subject of a sentence."""
    return BRINGS.get(attack, f"the attack {attack}")
