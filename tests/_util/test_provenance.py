"""Versions and memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from sgrace._util.provenance import (
    _commit_of_checkout,
    device_memory_mb,
    hardware,
    peak_memory_mb,
    versions,
)


def test_versions_are_those_of_the_installed_packages() -> None:
    found = json.loads(json.dumps(versions()))
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert {"python", "diffusers", "transformers", "safetensors", "numpy"} <= set(found)


def test_peak_memory_counts_mebibytes() -> None:
    before = peak_memory_mb()
    assert 50 < before < 10**6
    block = bytearray(2**20 * (before + 200))  # larger than all that was there
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory_mb() >= before + 150


def test_device_memory_is_counted_on_cuda_only() -> None:
    assert device_memory_mb("cpu") == device_memory_mb(torch.device("meta")) == 0
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    block = torch.zeros(2**20 * 8, device="cuda")
    assert device_memory_mb(block.device) >= 32


def git(folder: Path, *command: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(["git", *who, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_package_itself(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("1")
    assert _commit_of_checkout(package) is None, "no repository"
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "of a project that has the package in its environment")
    assert _commit_of_checkout(package) is None
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "of the package")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert _commit_of_checkout(package) == head
    (package / "code.py").write_text("2")
    assert _commit_of_checkout(package) == f"{head}-dirty"


def test_the_hardware_of_the_cpu_tells_its_instructions() -> None:
    assert torch.backends.cpu.get_cpu_capability() in hardware("cpu")
