"""What decides a result beside its settings: the versions of the packages."""

from __future__ import annotations

import platform
from importlib import metadata


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    names = ("sgrace", "torch", "diffusers", "transformers", "safetensors", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
