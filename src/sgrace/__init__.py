"""Erase a concept from a text-to-image diffusion model so that it stays erased under attack, and prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._util.errors import InputError

if TYPE_CHECKING:
    from .api import attack, erase, evaluate, load_model
    from .attacks import AttackSet
    from .concept import Concept
    from .erasure import Erasure
    from .evaluation import Evaluation
    from .knowledge import Knowledge
    from .testbeds.rescoring import rescore

    __version__: str

__all__ = [
    "AttackSet",
    "Concept",
    "Erasure",
    "Evaluation",
    "InputError",
    "Knowledge",
    "__version__",
    "attack",
    "erase",
    "evaluate",
    "load_model",
    "rescore",
]

#: Names that need torch, which takes seconds to import, or pydantic: only what is used is loaded.
_LAZY = {
    "AttackSet": "attacks",
    "Concept": "concept",
    "Erasure": "erasure",
    "Evaluation": "evaluation",
    "Knowledge": "knowledge",
    "attack": "api",
    "erase": "api",
    "evaluate": "api",
    "load_model": "api",
    "rescore": "testbeds.rescoring",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562)
    if name in _LAZY:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415

        return metadata.version("sgrace")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
