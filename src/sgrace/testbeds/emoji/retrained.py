"""The gold standard of erasure: the same model, trained from the start without the concept.

The evaluations of these models are here. Their weights are a package of their own, ``sgrace-gold``: they are
as large as everything else together, and only comparisons read them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..._util.errors import InputError, unknown
from ...erasure import Erasure

_EVALUATIONS = Path(__file__).parent / "gold"
METHOD = "retrained without the concept"


def gold_concepts() -> tuple[str, ...]:
    """Concepts without which the model was trained anew."""
    return tuple(
        sorted(folder.name.replace("-", " ") for folder in _EVALUATIONS.iterdir() if folder.is_dir())
    )


def gold_evaluation(concept: str, suite: str) -> Path | None:
    """The evaluation of the retrained model by a suite; None if there is none."""
    file = _EVALUATIONS / _folder_name(concept) / f"evaluation-{suite}.json"
    return file if file.is_file() else None


def gold_path(concept: str) -> Path:
    """Folder of the retrained model, an erasure.

    Raises:
        InputError: there is none for this concept, or the package that holds their weights is not installed.
    """
    known = gold_concepts()
    if concept not in known:
        raise unknown("concept of a retrained model", concept, known)
    package = find_spec("sgrace_gold")
    if package is None or package.origin is None:
        raise InputError(
            "The weights of the models that were trained without a concept are not installed; "
            "`pip install 'sgrace[gold]'` installs them."
        )
    return Path(package.origin).parent / _folder_name(concept)


def gold(concept: str) -> Erasure:
    """The erasure that turns the built-in model into the retrained one.

    It holds all weights of the text encoder and the denoiser. Tokenizer and autoencoder are the built-in
    model's own: they know strokes and letters, not what a word means.

    Raises:
        InputError: there is none for this concept, or the package that holds their weights is not installed.
    """
    return Erasure.from_pretrained(gold_path(concept))


def _folder_name(concept: str) -> str:
    return concept.replace(" ", "-")  # no folder of a package has a space in its name
