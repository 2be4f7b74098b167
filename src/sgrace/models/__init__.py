"""Model families behind one interface; only ``families`` knows the classes of diffusers."""

from .base import Calls, DiffusionModel, PartialSample, PartialSamples
from .conditioning import Conditioning, PromptSource, Tokens
from .text import TextEncoder, TextStack

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
]
