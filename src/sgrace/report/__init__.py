"""Page, plots and words of an evaluation."""

from .html import write_report

__all__ = ["write_report"]
