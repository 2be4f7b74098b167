"""What decides a result beside its settings (versions of packages), and the memory that it took."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("sgrace", "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that decide a result and are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # accelerate is optional; sgrace can run from its source folder
            continue
    return found


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far, in MiB; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  (Unix only)
    except ImportError:
        return 0
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def device_memory_mb(device: torch.device | str) -> int:
    """Largest memory that tensors took on a CUDA device so far, in MiB; 0 on any other device."""
    import torch  # noqa: PLC0415  (takes seconds to import)

    if torch.device(device).type != "cuda":
        return 0
    return torch.cuda.max_memory_allocated(device) // 2**20


def device_name(device: torch.device | str) -> str:
    """Name of the card for a CUDA device, else the device's type, such as ``cpu``."""
    import torch  # noqa: PLC0415  (takes seconds to import)

    place = torch.device(device)
    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
