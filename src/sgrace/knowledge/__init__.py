"""Words of a concept's space: related words, protected words, and replacements of the concept."""

from . import llm, offline
from .concept_words import Candidate, ConceptWords
from .guard import Dropped, told
from .target import Target, apart
from .word_files import read_words, write_words
from .words import Guarded, Knowledge

__all__ = [
    "Candidate",
    "ConceptWords",
    "Dropped",
    "Guarded",
    "Knowledge",
    "Target",
    "apart",
    "llm",
    "offline",
    "read_words",
    "told",
    "write_words",
]
