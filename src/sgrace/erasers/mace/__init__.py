"""MACE (Lu et al., arXiv 2403.06135): closed-form edits and low-rank adapters."""

from .config import MACEConfig
from .eraser import MACE

__all__ = ["MACE", "MACEConfig"]
