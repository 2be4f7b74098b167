"""S-GRACE, the flagship: semantics-guided robust adversarial concept erasure (arXiv 2510.27285)."""

from .config import SGraceConfig
from .eraser import SGrace

__all__ = ["SGrace", "SGraceConfig"]
