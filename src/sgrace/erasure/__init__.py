"""What an eraser leaves: changed tensors by component and their recipe, saved, read and applied."""

from .adapter import Adapter
from .composition import base_of, check_effect, check_room
from .erasure import Erasure
from .recipe import Recipe
from .strength import at_strength

__all__ = ["Adapter", "Erasure", "Recipe", "at_strength", "base_of", "check_effect", "check_room"]
