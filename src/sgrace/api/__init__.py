"""The library's verbs: ``load_model``, ``erase``, ``attack``, ``evaluate``."""

from ..evaluation.requests import fingerprint
from ..testbeds.loading import load_model, load_target
from .attacking import attack
from .erasing import erase
from .evaluating import evaluate

__all__ = ["attack", "erase", "evaluate", "fingerprint", "load_model", "load_target"]
