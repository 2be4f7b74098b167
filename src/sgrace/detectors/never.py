"""A detector that never detects the concept."""

from __future__ import annotations

from .always import Always


class Never(Always):
    """Detects the concept in no image."""

    name = "never"
    value = 0.0
