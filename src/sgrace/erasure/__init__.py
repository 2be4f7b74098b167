"""What an eraser leaves: changed tensors by component, the recipe that made them, and how both are saved and read."""

from .composition import base_of
from .erasure import Erasure
from .parts import Adapter
from .recipe import Recipe

__all__ = ["Adapter", "Erasure", "Recipe", "base_of"]
