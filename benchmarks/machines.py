"""What a machine is, what it can do at most, and what a process took of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

from sgrace._util.provenance import device_memory_mb, peak_memory_mb

SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices of the ceiling


def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401  (shapes)
    """Operations of attention."""
    return int(sdpa_flop_count(query, key, value))


def attention_backward(output: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    """Operations of its backward pass."""
    return int(sdpa_backward_flop_count(output, query, key, value))


#: PyTorch counts those of attention on a GPU only.
OF_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,  # noqa: SLF001
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,  # noqa: SLF001
}


def clock(device: torch.device) -> float:
    """Seconds of the processor; on a GPU those that passed until all its work was done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a matrix product."""
    side = SIDES[device.type]
    left = torch.randn(side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(4):
        started = clock(device)
        torch.mm(left, left)
        best = min(best, clock(device) - started)
    return 2 * side**3 / best


def peak_mb(device: torch.device) -> int:
    """Largest memory so far: resident, or on a GPU of tensors there."""
    return peak_memory_mb() if device.type == "cpu" else device_memory_mb(device)


def status_mb(file: str, entry: str) -> int:
    """An entry of a file of Linux's /proc, in MiB."""
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{entry}:"))


@contextmanager
def watched(peaks: dict[str, int]) -> Iterator[None]:
    """Keep the highest anonymous memory, and end the process before the machine has none left."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peaks["anonymous"] = max(peaks["anonymous"], status_mb("/proc/self/status", "RssAnon"))
            if status_mb("/proc/meminfo", "MemAvailable") < 1024:
                print(json.dumps({"stopped": f"out of memory at {peak_memory_mb()} MB"}), flush=True)
                os._exit(0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()
