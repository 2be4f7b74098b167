"""One erased model under attack, judged and measured."""

from .evaluate import evaluate
from .schema import Evaluation, Verdict

__all__ = ["Evaluation", "Verdict", "evaluate"]
