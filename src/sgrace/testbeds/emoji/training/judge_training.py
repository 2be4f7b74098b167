"""Stage ``judge``: train the classifier on real art of every style under strong augmentation."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from .. import vocabulary
from ..judge import Judge
from .loop import Schedule, train
from .training_data import EmojiData, augment, to_float

OTHER_SHARE = 0.15  # of a batch shows art of no class
BLUR = torch.tensor([1.0, 2.0, 1.0])


def degrade(images: Tensor, generator: torch.Generator, autoencoder: AutoencoderTiny | None) -> Tensor:
    """Blur a quarter of the images, pass another quarter through the autoencoder."""
    kind = torch.randint(4, (len(images),), generator=generator).to(images.device)
    out = images.clone()
    kernel = (BLUR[:, None] * BLUR / 16).expand(3, 1, 3, 3).to(images.device)
    if (blurred := kind == 0).any():
        out[blurred] = F.conv2d(F.pad(images[blurred], (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    if autoencoder is not None and (rebuilt := kind == 1).any():
        with torch.no_grad():
            out[rebuilt] = autoencoder(images[rebuilt]).sample.clamp(-1, 1)
    return out


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change the colours of images.

    Half of them are mixed with a random colour; then a sixth loses its colour, and another sixth has its
    colours swapped.
    """
    n = len(images)
    strength = (
        torch.rand(n, 1, 1, 1, generator=generator)
        * 0.5
        * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    )
    tone = torch.rand(n, 3, 1, 1, generator=generator) * 2 - 1
    out = images.lerp(tone.to(images.device), strength.to(images.device))
    kind = torch.randint(6, (n,), generator=generator).to(images.device)
    out[kind == 0] = out[kind == 0].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    out[kind == 1] = out[kind == 1][:, torch.randperm(3, generator=generator)]
    return out


def redraw(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn a sixth of the images into black and white, and another sixth into outlines.

    A class is then known by its shape.
    """
    kind = torch.randint(6, (len(images),), generator=generator).to(images.device)
    threshold = (0.2 + 0.7 * torch.rand(len(images), 1, 1, 1, generator=generator)).to(images.device)
    grey = images.mean(1, keepdim=True)
    out = images.clone()
    out[kind == 0] = torch.where(grey < threshold, -1.0, 1.0)[kind == 0].expand(-1, 3, -1, -1)
    if (outlined := kind == 1).any():
        sobel = (torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([-1.0, 0.0, 1.0])).to(images.device)
        padded = F.pad(images[outlined], (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
        slope = (
            F.conv2d(padded, torch.stack([sobel, sobel.T])[:, None])
            .norm(dim=1)
            .unflatten(0, (-1, 3))
            .amax(1, keepdim=True)
        )
        out[outlined] = (1 - slope).clamp(-1, 1).expand(-1, 3, -1, -1)
    return out


def shade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Let the light of a third of the images fall off, or grow, along a random direction."""
    n = len(images)
    side = images.shape[-1]
    angle = torch.rand(n, 1, 1, generator=generator) * 2 * torch.pi
    at = torch.linspace(-0.5, 0.5, side)
    along = torch.cos(angle) * at + torch.sin(angle) * at[:, None]
    reach = (
        0.8 * torch.rand(n, 1, 1, generator=generator) * (torch.rand(n, 1, 1, generator=generator) < 1 / 3)
    )
    light = (1 - reach * (along + 0.5)).unsqueeze(1).to(images.device)
    return ((images + 1) * light - 1).clamp(-1, 1)


def occlude(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cover a rectangle of a third of the images, and stripes over a tenth, with an even grey."""
    side = images.shape[-1]
    out = images.clone()
    cover = torch.rand(len(out), generator=generator)
    for image, chance in zip(out, cover.tolist(), strict=True):
        if chance >= 1 / 3 + 1 / 10:
            continue
        grey = torch.rand(1, generator=generator).item() * 2 - 1
        if chance < 1 / 3:
            height, width = torch.randint(side // 8, side // 3, (2,), generator=generator).tolist()
            y, x = torch.randint(side - max(height, width), (2,), generator=generator).tolist()
            image[:, y : y + height, x : x + width] = grey
        else:
            for lines in (image, image.transpose(1, 2)):
                period, start = torch.randint(5, 13, (2,), generator=generator).tolist()
                lines[:, start % period :: period] = grey
    return out


def left_out_pairs(data: EmojiData) -> Tensor:
    """Drawings ``(n,)`` to test a judge on that never saw them: every other class in one style, in turn."""
    order = data.generator_pictures
    wanted = data.style[order]
    label = data.label[order]
    return order[(label % 2 == 0) & (wanted == (label // 2) % len(vocabulary.STYLES))]


def new_judge(seed: int) -> Judge:
    """An untrained judge."""
    torch.manual_seed(seed)
    return Judge()


def train_judge(
    data: EmojiData,
    judge: Judge,
    autoencoder: AutoencoderTiny | None,
    work: Path,
    schedule: Schedule,
    seed: int,
    device: torch.device,
    left_out: Tensor | None = None,
) -> tuple[Judge, float]:
    """Train on all images but those whose indices are in ``left_out``."""
    judge = judge.to(device)
    batch = schedule.batch
    nn.Module.to(judge, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out of its overloads
    usable = torch.ones(len(data.label), dtype=torch.bool)
    if left_out is not None:
        usable[left_out] = False
    known = torch.nonzero(usable & (data.label < data.n_classes)).flatten()
    other = torch.nonzero(data.label >= data.n_classes).flatten()
    n_other = round(OTHER_SHARE * batch)

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pictures = torch.cat(
            [
                pool[torch.randint(len(pool), (n,), generator=generator)]
                for pool, n in ((known, batch - n_other), (other, n_other))
            ]
        )
        images = degrade(to_float(data.images[pictures].to(device)), generator, autoencoder)
        images = augment(images, generator, shift=0.12, scale=0.25, rotate=20, noise=0.3)
        everywhere = occlude(shade(recolour(redraw(images, generator), generator), generator), generator)
        classes = judge.concept(everywhere.contiguous(memory_format=torch.channels_last))
        # colour is a part of style
        styles = judge.style(images.contiguous(memory_format=torch.channels_last))
        label = data.label[pictures].clamp(max=data.n_classes).to(device)
        style = data.style[pictures].to(device)
        return F.cross_entropy(classes, label, label_smoothing=0.05) + F.cross_entropy(
            styles, style, ignore_index=-1
        )

    loss = train("judge" if left_out is None else "judge-left-out", judge, loss_at, schedule, work)
    return judge, loss
