"""Pages, plots and words of evaluations."""

from .comparison import write_comparison
from .html import write_report

__all__ = ["write_comparison", "write_report"]
