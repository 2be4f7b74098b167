"""Is the concept in this picture? One file per detector."""

from .base import Detector, Identity

__all__ = ["Detector", "Identity"]
