"""The built-in model: a small latent diffusion pipeline of emoji, with an independent judge of its images."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .concepts import ClassSet, keyword_table, knowledge, known_concepts, path, resolve

if TYPE_CHECKING:
    from .judge import Judge, Verdict
    from .retrained import gold, gold_concepts, gold_path
    from .testbed import EmojiTestbed

__all__ = [
    "ClassSet",
    "EmojiTestbed",
    "Judge",
    "Verdict",
    "gold",
    "gold_concepts",
    "gold_path",
    "keyword_table",
    "knowledge",
    "known_concepts",
    "path",
    "resolve",
]

#: Names that need torch, which takes seconds to import: the concepts are listed without it.
_LAZY = {
    "EmojiTestbed": "testbed",
    "Judge": "judge",
    "Verdict": "judge",
    "gold": "retrained",
    "gold_concepts": "retrained",
    "gold_path": "retrained",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (PEP 562)
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
