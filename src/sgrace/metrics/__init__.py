"""Pure functions of stored scores and features."""

from .intervals import Share, bootstrap, jackknife, wilson

__all__ = ["Share", "bootstrap", "jackknife", "wilson"]
