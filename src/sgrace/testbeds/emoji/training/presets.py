"""How long the built-in model is trained, on which kind of machine, and how wide its denoiser is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .denoiser import Widths
from .loop import Schedule


@dataclass(frozen=True)
class Preset:
    """Schedules of one kind of machine, and the denoiser's widths."""

    clip: Schedule
    autoencoder: Schedule
    denoiser: Schedule
    judge: Schedule
    widths: Widths = (64, 128, 192)


CPU = Preset(  # two cores, about five hours in all
    clip=Schedule(steps=4_000, batch=128, lr=1e-3, weight_decay=0.05),
    autoencoder=Schedule(steps=3_600, batch=16, lr=2e-3, weight_decay=0.0, ema=0.998),
    denoiser=Schedule(steps=16_000, batch=64, lr=1e-3, ema=0.999),
    judge=Schedule(steps=1_600, batch=96, lr=2e-3, weight_decay=0.05),
)
PRESETS: dict[str, Preset] = {
    "cpu": CPU,
    "narrow": replace(CPU, widths=(48, 96, 144)),
    "gpu": Preset(
        clip=Schedule(steps=6_000, batch=512, lr=1e-3, weight_decay=0.05),
        autoencoder=Schedule(steps=8_000, batch=64, lr=2e-3, weight_decay=0.0, ema=0.998),
        denoiser=Schedule(steps=20_000, batch=256, lr=1e-3, ema=0.999),
        judge=Schedule(steps=4_000, batch=256, lr=2e-3, weight_decay=0.05),
    ),
}
