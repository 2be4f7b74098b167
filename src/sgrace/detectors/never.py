"""A detector that sees the concept nowhere."""

from __future__ import annotations

from .always import Always


class Never(Always):
    """Sees the concept nowhere."""

    name = "never"
    value = 0.0
