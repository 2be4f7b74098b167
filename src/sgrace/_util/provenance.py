"""What decides a result beside its settings: the versions of the packages."""

from __future__ import annotations

import platform
import resource
from importlib import metadata


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    names = ("sgrace", "torch", "diffusers", "transformers", "safetensors", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def peak_memory_mb() -> int:
    """The largest memory that the process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
