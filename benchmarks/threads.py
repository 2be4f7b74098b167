"""Seconds of a step with gradients, by threads and by the size of the denoiser, beside busy processes.

    python benchmarks/threads.py [--busy 1] [--threads 1 2] [--seconds 5]

The denoisers are the built-in model's and UNets of Stable Diffusion 1's layout with fewer channels, at images
of 256 pixels. Numbers of threads take turns, and each gets so many seconds. Printed is the clock's time of a
step.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

import sgrace
from sgrace.models.families.stable_diffusion import VERSION_1

from full_size_models import shapes_of, with_unet  # isort: skip

#: Channels of the first block; the later ones have twice and four times as many.
CHANNELS = (32, 64, 128, 192, 320)


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Processes that keep cores busy."""
    running = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n)]
    for process in running:
        process.start()
    yield
    for process in running:
        process.kill()


def denoisers() -> Iterator[tuple[str, nn.Module]]:
    """Name and network."""
    yield "built-in", sgrace.load_model("emoji").denoiser
    for n in CHANNELS:
        small = {"sample_size": 32, "block_out_channels": [n, 2 * n, 4 * n, 4 * n]}
        network = shapes_of(with_unet(VERSION_1, small).networks["unet"]).to_empty(device="cpu")
        for value in network.parameters():
            nn.init.normal_(value, std=0.02)
        yield f"{n} channels", network.requires_grad_(requires_grad=False)


def seconds_of_a_step(network: nn.Module, limit: float) -> float:
    """Seconds of one sample forward and backward to the text states, by the clock, in so many seconds."""
    config: Any = network.config
    side = config.sample_size
    latents = torch.randn(1, config.in_channels, side, side)
    states = torch.randn(1, 77, config.cross_attention_dim, requires_grad=True)
    started = time.monotonic()
    steps = 0
    while steps == 0 or time.monotonic() - started < limit:
        torch.autograd.grad(network(latents, 500, states).sample.square().mean(), states)
        steps += 1
    return (time.monotonic() - started) / steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, default=1, help="processes that keep a core busy each")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads at most; {given.busy} busy processes beside")
    print("| denoiser | weights | " + " | ".join(f"{n} threads" for n in given.threads) + " |")
    print("| --- " * (2 + len(given.threads)) + "|")
    with busy(given.busy):
        for name, network in denoisers():
            weights = sum(value.numel() for value in network.parameters())
            best = dict.fromkeys(given.threads, float("inf"))
            for _ in range(2):
                for n in given.threads:
                    torch.set_num_threads(n)
                    best[n] = min(best[n], seconds_of_a_step(network, given.seconds / 2))
            row = " | ".join(f"{1000 * taken:.0f} ms" for taken in best.values())
            print(f"| {name} | {weights / 1e6:.0f} M | {row} |", flush=True)


if __name__ == "__main__":
    main()
