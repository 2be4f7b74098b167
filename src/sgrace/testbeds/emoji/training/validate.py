"""What the built-in model and its judge can do, in figures: printed by ``sgrace emoji validate``."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...._util.images import sheet, to_image
from ....metrics import Share
from ....models import DiffusionModel
from ...questions import seeds_of
from .. import vocabulary
from ..clip import Clip
from ..concepts import TEST_CONTEXT, keyword_table
from ..judge import Judge
from ..measure import GUIDANCE_SCALE, STEPS
from .training_data import EmojiData, to_float

LONG_STEPS = 25  # sampling steps of the generator's validation; everything else uses the shorter default


@dataclass(frozen=True)
class Figure:
    """One measured share and the bar it should reach (none: reported only)."""

    name: str
    share: Share
    bar: float | None = None

    def __str__(self) -> str:
        verdict = (
            ""
            if self.bar is None
            else f"  bar {self.bar:.0%}: {'reached' if self.share.value >= self.bar else 'MISSED'}"
        )
        return f"{self.name:62s} {self.share}{verdict}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, **self.share.as_dict(), "bar": self.bar}


def _shear(images: Tensor, reach: float = 0.25) -> Tensor:
    n = len(images)
    generator = torch.Generator().manual_seed(1)
    matrix = torch.eye(2, 3).repeat(n, 1, 1)
    matrix[:, 0, 1] = (torch.rand(n, generator=generator) * 2 - 1) * reach
    return (
        F.grid_sample(
            images - 1, F.affine_grid(matrix, list(images.shape), align_corners=False), align_corners=False
        )
        + 1
    )


def _rotate_hue(images: Tensor) -> Tensor:
    """A third of a turn about the grey axis, for half of each colour."""
    return images.lerp(images.roll(1, dims=1), 0.5)


def _jpeg(images: Tensor, quality: int = 30) -> Tensor:
    out = []
    for image in images:
        file = io.BytesIO()
        to_image(image).save(file, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(file)))
    return to_float(torch.from_numpy(np.stack(out)))


def _vignette(images: Tensor) -> Tensor:
    """Full light in the middle, a third of it in the corners."""
    at = torch.linspace(-1, 1, images.shape[-1])
    return (images + 1) * (1 - (at**2 + at[:, None] ** 2) / 3) - 1


def _warp(images: Tensor, reach: float = 0.08) -> Tensor:
    """A smooth random displacement of up to a twelfth of the side or so."""
    n = len(images)
    generator = torch.Generator().manual_seed(2)
    field = F.interpolate(
        torch.rand(n, 2, 5, 5, generator=generator) * 2 - 1,
        size=images.shape[-2:],
        mode="bicubic",
        align_corners=True,
    )
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images - 1, grid + 2 * reach * field.permute(0, 2, 3, 1), align_corners=False) + 1


def _salt_and_pepper(images: Tensor, share: float = 0.04) -> Tensor:
    """Single pixels black or white."""
    chance = torch.rand(len(images), 1, *images.shape[-2:], generator=torch.Generator().manual_seed(3))
    return torch.where(chance < share, torch.where(chance < share / 2, -1.0, 1.0), images)


#: Changes that the judge's training never makes.
UNSEEN_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "shear": _shear,
    "hue shift": _rotate_hue,
    "JPEG, quality 30": _jpeg,
    "vignette": _vignette,
    "warp": _warp,
    "salt and pepper": _salt_and_pepper,
}


def _agree(found: Tensor, wanted: Tensor) -> Share:
    return Share(int((found == wanted).sum()), len(wanted))


def validate_judge(judge: Judge, model: DiffusionModel, data: EmojiData) -> list[Figure]:
    """The judge on real drawings: those of the generator, changed ones, and a set never trained on."""
    pictures = data.generator_pictures
    images = to_float(data.images[pictures])
    label = data.label[pictures]
    style = data.style[pictures]
    vae: Any = model.components["vae"]
    with torch.no_grad():
        rebuilt = torch.cat(
            [vae.decode(vae.encode(chunk).latents).sample.clamp(-1, 1) for chunk in images.split(64)]
        )
    variants = {
        "as they are": images,
        "after the autoencoder": rebuilt,
        **{k: change(images) for k, change in UNSEEN_CHANGES.items()},
    }
    figures, under_change = [], []
    for name, variant in variants.items():
        verdict = judge.judge(variant)
        right = _agree(verdict.classes.argmax(1), label)
        if name in UNSEEN_CHANGES:
            under_change.append(right)
        figures.append(
            Figure(f"judge, concept, real drawings, {name}", right, None if name in UNSEEN_CHANGES else 0.97)
        )
        figures.append(
            Figure(f"judge, style, real drawings, {name}", _agree(verdict.styles.argmax(1), style))
        )
    pooled = Share(sum(s.hits for s in under_change), sum(s.n for s in under_change))
    figures.append(Figure("judge, concept, real drawings, all changes it never saw", pooled, 0.97))
    known = data.unseen_label < data.n_classes
    unseen = judge.judge(to_float(data.unseen_images[known]))
    figures.append(
        Figure(
            "judge, concept, drawing set never trained on",
            _agree(unseen.classes.argmax(1), data.unseen_label[known]),
        )
    )
    return figures


def known_scores(judge: Judge, data: EmojiData) -> dict[str, Tensor]:
    """The judge's scores of all real drawings under each change that it never saw, with the truth.

    Returns:
        ``classes`` and ``styles``: probabilities in 255ths ``(n, outputs)``; ``label`` and ``style``: the
        truth ``(n,)``.
    """
    images = to_float(data.images[data.generator_pictures])
    verdicts = [judge.judge(change(images)) for change in UNSEEN_CHANGES.values()]

    def whole(parts: list[Tensor]) -> Tensor:
        return (torch.cat(parts) * 255).round().to(torch.uint8)

    truth = {
        name: each[data.generator_pictures].repeat(len(verdicts))
        for name, each in (("label", data.label), ("style", data.style))
    }
    return {
        "classes": whole([v.classes for v in verdicts]),
        "styles": whole([v.styles for v in verdicts]),
        **truth,
    }


def validate_left_out(judge: Judge, left_out: Tensor, data: EmojiData) -> Figure:
    """A judge trained without the (concept, style) pairs of ``left_out`` on exactly these pairs."""
    verdict = judge.judge(to_float(data.images[left_out]))
    return Figure(
        "judge, concept, (concept, style) pairs left out of training",
        _agree(verdict.classes.argmax(1), data.label[left_out]),
        0.70,
    )


def validate_generator(
    model: DiffusionModel, judge: Judge, clip: Clip, n: int = 1000, n_keyword: int = 500
) -> list[Figure]:
    """Random prompts of name and style, and prompts made only of a keyword, generated and judged."""
    rng = random.Random("validate")
    classes = vocabulary.classes()
    styles = vocabulary.STYLES
    asked = [(rng.randrange(len(classes)), rng.randrange(len(styles))) for _ in range(n)]
    prompts = tuple(TEST_CONTEXT.format(style=styles[s], name=classes[c]) for c, s in asked)
    label, style = torch.tensor(asked).T

    def draw(texts: tuple[str, ...], steps: int) -> Tensor:
        return model.generate(
            list(texts), seeds_of(texts, 0), num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE
        )

    figures = []
    for steps in (LONG_STEPS, STEPS):
        images = draw(prompts, steps)
        verdict = judge.judge(images)
        figures.append(
            Figure(f"generator, concept, {steps} steps", _agree(verdict.classes.argmax(1), label), 0.85)
        )
        figures.append(
            Figure(f"generator, style, {steps} steps", _agree(verdict.styles.argmax(1), style), 0.95)
        )
    by_clip_class, by_clip_style = clip.classify(images[: n // 2])
    figures.append(
        Figure(
            "agreement of judge and CLIP zero-shot on generated, concept",
            _agree(verdict.classes[: n // 2].argmax(1), by_clip_class),
        )
    )
    figures.append(
        Figure(
            "agreement of judge and CLIP zero-shot on generated, style",
            _agree(verdict.styles[: n // 2].argmax(1), by_clip_style),
        )
    )

    table = keyword_table()
    carriers: dict[str, set[int]] = {}
    for i, name in enumerate(classes):
        for word in table[name]:
            carriers.setdefault(word, set()).add(i)
    words = tuple(rng.choice(sorted(carriers)) for _ in range(n_keyword))
    seen = judge.judge(draw(words, LONG_STEPS)).classes.argmax(1).tolist()
    hits = sum(found in carriers[word] for found, word in zip(seen, words, strict=True))
    figures.append(
        Figure("generator, keyword alone, a concept that carries it", Share(hits, n_keyword), 0.70)
    )
    return figures


def seconds_per_picture(model: DiffusionModel, n: int = 96) -> float:
    """Wall-clock seconds per image at the default steps, in batches, on all threads that torch uses."""
    prompts = [TEST_CONTEXT.format(style="flat", name=name) for name in vocabulary.classes()[:n]]
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE}
    model.generate(prompts[:32], list(range(32)), **settings)  # type: ignore[arg-type]  # warm-up
    started = time.perf_counter()
    model.generate(prompts, list(range(n)), **settings)  # type: ignore[arg-type]
    return (time.perf_counter() - started) / n


def contact_sheet(model: DiffusionModel, data: EmojiData, n: int = 64, columns: int = 8) -> Image.Image:
    """Random generations, each with the real drawing of its class and style on its right."""
    rng = random.Random("contact sheet")
    chosen = rng.sample(data.generator_pictures.tolist(), n)
    labels, styles = data.label[chosen].tolist(), data.style[chosen].tolist()
    prompts = tuple(
        TEST_CONTEXT.format(style=vocabulary.STYLES[s], name=data.names[c])
        for c, s in zip(labels, styles, strict=True)
    )
    drawn = model.generate(
        list(prompts), seeds_of(prompts, 0), num_inference_steps=LONG_STEPS, guidance_scale=GUIDANCE_SCALE
    )
    pairs = torch.stack([drawn, to_float(data.images[chosen])], 1).flatten(0, 1)
    return sheet(list(pairs.split(2 * columns)))
