"""What an eraser leaves: changed tensors by component, the recipe that made them, and how both are saved and read."""

from .adapter import Adapter
from .composition import base_of
from .erasure import Erasure
from .recipe import Recipe

__all__ = ["Adapter", "Erasure", "Recipe", "base_of"]
