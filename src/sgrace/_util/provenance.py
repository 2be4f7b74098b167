"""What decides a result beside its settings (versions of packages), and the memory that it took."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("sgrace", "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that decide a result and are installed.

    Where this package comes from a repository, its commit is among them.
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # accelerate is optional; sgrace can run from its source folder
            continue
    return found | ({"commit": known} if (known := commit()) else {})


@functools.cache
def commit() -> str | None:
    """The commit of this package, with ``-dirty`` where files were changed since; None where nobody knows."""
    return _commit_of_checkout(Path(__file__).parent) or _commit_of_installation()


def _commit_of_checkout(folder: Path) -> str | None:
    git = shutil.which("git")
    # an environment may lie in the checkout of another project, which does not know its files
    if git is None or not _said(git, folder, "ls-files", "."):
        return None
    return _said(git, folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def _said(git: str, folder: Path, *command: str) -> str | None:
    done = subprocess.run(  # noqa: S603  (arguments of our own)
        [git, "-C", str(folder), *command], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


def _commit_of_installation() -> str | None:
    """What pip noted (PEP 610), if it installed the package from a repository."""
    try:
        noted = json.loads(metadata.distribution("sgrace").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    found = noted.get("vcs_info", {}).get("commit_id")
    return None if found is None else str(found)


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


def hardware(device: torch.device | str) -> str:
    """The card, or the kind of processor, its cores, and the instructions that PyTorch uses."""
    import torch  # noqa: PLC0415  (takes seconds to import)

    if torch.device(device).type != "cpu":
        return device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
