"""The built-in model: a small latent diffusion pipeline that draws emoji, with an independent judge of its images."""

from .concepts import ClassSet, keyword_table, knowledge, known_concepts, path, resolve
from .gold import gold, gold_concepts, gold_path
from .judge import Judge, Verdict
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
