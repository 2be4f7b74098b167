"""AdvUnlearn (Zhang et al., arXiv 2405.15234): the text encoder unlearns attacked prompts."""

from .config import AdvUnlearnConfig
from .eraser import AdvUnlearn

__all__ = ["AdvUnlearn", "AdvUnlearnConfig"]
