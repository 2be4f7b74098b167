"""Pure functions of stored scores."""

from .intervals import Share, wilson

__all__ = ["Share", "wilson"]
