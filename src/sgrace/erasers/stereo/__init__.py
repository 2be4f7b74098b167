"""STEREO (Srivatsan et al., arXiv 2408.16807): search words that bring the concept back, then erase all."""

from .config import STEREOConfig
from .eraser import STEREO

__all__ = ["STEREO", "STEREOConfig"]
