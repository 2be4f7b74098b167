"""Pages, plots and words of evaluations."""

from .before_after import before_after_picture
from .comparison import write_comparison
from .html import write_report
from .plots import attack_plot, retention_plot, space_plot
from .sentence import summary

__all__ = [
    "attack_plot",
    "before_after_picture",
    "retention_plot",
    "space_plot",
    "summary",
    "write_comparison",
    "write_report",
]
