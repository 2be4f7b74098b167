"""SAFREE (Yoon et al., arXiv 2410.12761): trigger tokens are projected away from the concept."""

from .config import SAFREEConfig
from .eraser import SAFREE

__all__ = ["SAFREE", "SAFREEConfig"]
