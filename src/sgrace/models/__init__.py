"""Model families behind one interface; only ``families`` knows the classes of diffusers."""

from .base import DiffusionModel
from .conditioning import Conditioning, PromptSource, Tokens
from .families._quiet import quiet_libraries
from .parts import Calls
from .schedule import PartialSample, PartialSamples
from .text import TextEncoder
from .text_stack import TextStack
from .threads import own_threads

__all__ = [
    "Calls",
    "Conditioning",
    "DiffusionModel",
    "PartialSample",
    "PartialSamples",
    "PromptSource",
    "TextEncoder",
    "TextStack",
    "Tokens",
    "own_threads",
    "quiet_libraries",
]
