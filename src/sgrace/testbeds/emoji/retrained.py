"""The gold standard of erasure: the same model, trained from the start without the concept."""

from __future__ import annotations

from pathlib import Path

from ..._util.errors import unknown
from ...erasure import Erasure

_FOLDER = Path(__file__).parent / "gold"
METHOD = "retrained without the concept"


def gold_concepts() -> tuple[str, ...]:
    """Concepts for which a retrained model is in the package."""
    folders = [folder for folder in _FOLDER.glob("*") if (folder / "recipe.json").is_file()]
    # no folder of the package has a space in its name
    return tuple(sorted(folder.name.replace("-", " ") for folder in folders))


def gold_path(concept: str) -> Path:
    """Folder of the retrained model: an erasure and its evaluations (``evaluation-<suite>.json``).

    Raises:
        InputError: there is none for this concept.
    """
    known = gold_concepts()
    if concept not in known:
        raise unknown("concept of a retrained model", concept, known)
    return _FOLDER / concept.replace(" ", "-")


def gold(concept: str) -> Erasure:
    """The erasure that turns the built-in model into the retrained one.

    It holds all weights of the text encoder and the denoiser. Tokenizer and autoencoder are the built-in
    model's
    own: they know strokes and letters, not what a word means.

    Raises:
        InputError: there is none for this concept.
    """
    return Erasure.from_pretrained(gold_path(concept))
