"""What an eraser leaves: changed tensors by component, the recipe that made them, and how both are saved and read."""

from .erasure import Erasure

__all__ = ["Erasure"]
