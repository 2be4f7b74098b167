"""One erased model under attack, judged and measured."""

from .evaluate import evaluate
from .schema import Evaluation

__all__ = ["Evaluation", "evaluate"]
