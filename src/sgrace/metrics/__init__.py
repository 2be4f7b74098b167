"""Pure functions of stored scores and features."""

from .intervals import Share, bootstrap, wilson

__all__ = ["Share", "bootstrap", "wilson"]
