"""Versions and memory."""

from __future__ import annotations

import json

import pytest
import torch

from sgrace._util.provenance import device_memory_mb, peak_memory_mb, versions


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
