"""Does an image show the concept? One file per detector."""

from .base import Detector, Identity

__all__ = ["Detector", "Identity"]
