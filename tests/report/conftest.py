"""The browser that pages are opened in."""

from ..browser import browser

__all__ = ["browser"]
