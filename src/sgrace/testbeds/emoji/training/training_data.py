"""Training images with captions: which drawing goes with which words, and the augmentations."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import vocabulary
from ..concepts import ClassSet, resolve
from .art import GENERATOR_SOURCES, SOURCES, UNSEEN_SOURCE, Art, load_art

GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
SOURCE_NAMES = tuple(SOURCES)


@dataclass(frozen=True)
class Caption:
    """A text and what it says: the words name ``word`` and, if given, the style of index ``style``."""

    text: str
    word: str
    style: int | None


class EmojiData:
    """All drawings, the classes they belong to and the words that name them.

    Classes ``0 .. n_classes - 1`` are those of the built-in model; higher indices are the rest of the art,
    which only widens what the encoders and the autoencoder have seen.

    Args:
        cache: folder of the art.
        without: name of a concept of which the generator sees no image and no word.
    """

    def __init__(self, cache: Path, without: str | None = None) -> None:
        self.art: Art = load_art(cache, GROUPS)
        unicode_name = {alias: name for name, alias in vocabulary.ALIASES.items()}
        order = {record["name"]: i for i, record in enumerate(self.art.concepts)}
        built_in = [order[unicode_name.get(name, name)] for name in vocabulary.classes()]
        rest = [i for i in range(len(self.art.concepts)) if i not in set(built_in)]
        self.n_classes = len(built_in)
        self.records = [self.art.concepts[i] for i in built_in + rest]
        self.names = [vocabulary.ALIASES.get(r["name"], r["name"]) for r in self.records]
        position = np.empty(len(self.records), dtype=np.int64)
        position[built_in + rest] = np.arange(len(self.records))
        seen = self.art.source != SOURCE_NAMES.index(UNSEEN_SOURCE)
        self.images = torch.from_numpy(self.art.images[seen])  # uint8 (n, size, size, 3)
        self.label = torch.from_numpy(position[self.art.concept[seen]])
        self.source = torch.from_numpy(self.art.source[seen].astype(np.int64))
        self.unseen_images = torch.from_numpy(self.art.images[~seen])
        self.unseen_label = torch.from_numpy(position[self.art.concept[~seen]])
        self.banned_words: set[str] = set()
        self.visible = torch.ones(len(self.label), dtype=torch.bool)
        if without is not None:
            self._hide(resolve(without))

    def _hide(self, concept: ClassSet) -> None:
        if concept.style is not None:
            looks = torch.tensor([concept.style in (s.look, s.resembles) for s in SOURCES.values()])
            self.visible &= ~looks[self.source]
            return
        self.banned_words = {concept.name, *concept.targets, *concept.train_words, *concept.held_out}
        hidden = [
            i
            for i, r in enumerate(self.records)
            if self.names[i] in concept.targets or self.banned_words & {r["name"], *r["keywords"]}
        ]
        # other classes only lose the words
        shown = {self.names.index(name) for name in (*concept.neighbours, *concept.unrelated)}
        self.visible &= ~torch.isin(self.label, torch.tensor(sorted(set(hidden) - shown)))

    def pictures(self, *, built_in: bool) -> Tensor:
        """Indices of the visible images of the built-in classes, or of all others."""
        return torch.nonzero(self.visible & ((self.label < self.n_classes) == built_in)).flatten()

    @cached_property
    def style(self) -> Tensor:
        """Style index of every image, -1 where the drawing set has none of the generator's styles."""
        looks = [SOURCES[name].look for name in SOURCE_NAMES]
        table = torch.tensor([-1 if look is None else vocabulary.STYLES.index(look) for look in looks])
        return table[self.source]

    @cached_property
    def keywords(self) -> list[list[str]]:
        """Keywords of every class: short, and shared by few enough classes to mean something."""
        count: dict[str, int] = {}
        for record in self.records[: self.n_classes]:
            for word in record["keywords"]:
                count[word] = count.get(word, 0) + 1
        names = set(self.names) | self.banned_words
        return [
            [w for w in r["keywords"] if len(w.split()) <= 2 and count.get(w, 0) <= 12 and w not in names]
            for r in self.records
        ]

    @cached_property
    def generator_pictures(self) -> Tensor:
        """Indices of the images that the generator learns."""
        wanted = torch.tensor([name in GENERATOR_SOURCES for name in SOURCE_NAMES])
        return torch.nonzero(self.visible & (self.label < self.n_classes) & wanted[self.source]).flatten()

    def caption(
        self, picture: int, rng: random.Random, *, keyword_share: float = 0.35, style_share: float = 0.8
    ) -> Caption:
        """A random true caption of the image."""
        label, style = int(self.label[picture]), int(self.style[picture])
        words = self.keywords[label]
        word = rng.choice(words) if words and rng.random() < keyword_share else self.names[label]
        if style < 0 or rng.random() >= style_share:
            return Caption(rng.choice(vocabulary.PLAIN_TEMPLATES).format(name=word), word, None)
        phrase = rng.choice(vocabulary.STYLE_PHRASES[vocabulary.STYLES[style]])
        return Caption(rng.choice(vocabulary.STYLE_TEMPLATES).format(name=word, style=phrase), word, style)

    @cached_property
    def means(self) -> dict[str, set[int]]:
        """Word -> classes that it names."""
        table: dict[str, set[int]] = {}
        for label, (name, words) in enumerate(zip(self.names, self.keywords, strict=True)):
            for word in (name, *words):
                table.setdefault(word, set()).add(label)
        return table


def to_float(images: Tensor) -> Tensor:
    """uint8 ``(n, h, w, 3)`` in 0..255 -> float ``(n, 3, h, w)`` in -1..1."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    shift: float,
    scale: float,
    rotate: float,
    flip: bool = True,
    noise: float = 0.0,
) -> Tensor:
    """Random moves, filled with white.

    Args:
        images: ``(n, 3, h, w)`` in -1..1.
        generator: source of the randomness.
        shift: reach of the shift, as a part of the side.
        scale: reach of the logarithm of the scale.
        rotate: reach of the rotation, in degrees.
        flip: mirror half of the images.
        noise: highest standard deviation of added noise.
    """
    n = len(images)
    device = images.device

    def uniform(reach: float) -> Tensor:
        return ((torch.rand(n, generator=generator) * 2 - 1) * reach).to(device)

    angle, zoom = uniform(math.radians(rotate)), torch.exp(uniform(scale))
    mirror = uniform(1.0).sign() if flip else torch.ones(n, device=device)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        torch.stack([cos * mirror, -sin, uniform(2 * shift)], 1),
        torch.stack([sin * mirror, cos, uniform(2 * shift)], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images - 1, grid, align_corners=False) + 1  # padding by zero is then white
    if noise:
        strength = torch.rand(n, 1, 1, 1, generator=generator) * noise
        moved = moved + (torch.randn(moved.shape, generator=generator) * strength).to(device)
    return moved
