"""Relabelling: prompts of a concept learn to draw what other prompts draw at the same latents, while other pictures stay learnt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...concept import Concept
from ...knowledge import Knowledge
from ...models import StableDiffusion
from .generated_data import Texts, draw_latents, noise_for, picks
from .prompts import names_of, stand_in


@dataclass(frozen=True)
class Batch:
    """Rows of pictures that are relabelled, then rows that are denoised as they are.

    Attributes:
        clean: scaled latents of all rows.
        noise, timesteps: of all rows.
        states: text states of the prompts under which the network is trained, of all rows.
        n: number of rows that are relabelled.
        labels: text states ``(n, length, width)`` whose output is wanted there; absent if the true noise is wanted.
    """

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    states: Tensor
    n: int
    labels: Tensor | None


def relabel_losses(student: StableDiffusion, batch: Batch) -> tuple[Tensor, Tensor]:
    """``mean |eps(x, states) - sg eps(x, labels)|^2`` of the relabelled rows, and the denoising loss of the others, 0 if there are none.

    The network in training is its own teacher. Two calls of the denoiser, one where ``labels`` is absent.
    """
    n, noisy = batch.n, student.noised(batch.clean, batch.noise, batch.timesteps)
    wanted = student.training_target(batch.clean, batch.noise, batch.timesteps)
    if batch.labels is not None:
        with torch.no_grad():
            wanted = torch.cat([student.predict(noisy[:n], batch.timesteps[:n], batch.labels), wanted[n:]])
    errors = (student.predict(noisy, batch.timesteps, batch.states) - wanted).square().mean((1, 2, 3))
    return errors[:n].mean(), errors[n:].mean() if len(errors) > n else errors.new_zeros(())


class RelabelConfig(BaseModel):
    """Settings of methods that learn from pictures of the concept to forget it, and from other pictures to retain them.

    Attributes:
        group: which parameters are trained.
        pseudo: word that the concept's prompts shall draw instead; if empty, the concept's first surrogate.
        retain: word of the pictures that are retained; if empty, all unrelated words.
        words: the concept's prompts say its name only, or its related words too.
        n_pictures: pictures of the concepts, and as many that are retained.
        first_batch_only: see the first ``batch`` pictures of each kind only, again and again.
        num_inference_steps, guidance_scale: of the pictures.
        iterations, batch, lr: of Adam.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Literal["all", "not_cross_attention"] = "all"
    pseudo: str = ""
    retain: str = ""
    words: Literal["name", "related"] = "name"
    n_pictures: int = Field(800, ge=1, le=100_000)
    first_batch_only: bool = False
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(7.5, ge=1, le=50)
    iterations: int = Field(100, ge=0, le=1_000_000)
    batch: int = Field(8, ge=1, le=1024)
    lr: float = Field(1e-5, gt=0, le=1)

    @property
    def batches_a_pass(self) -> int:
        """Batches that see each picture once."""
        return -(-self.n_pictures // self.batch)


class RelabelData:
    """Pictures to forget and to retain, drawn by the original model, with the text states of their prompts; endless batches of them.

    Args:
        config: settings; nothing is drawn for no iterations.
        model: the original model.
        concepts: take turns among the pictures to forget.
        knowledge: words of each of them.
        seed: of every choice.

    Attributes:
        prompts: prompt of each picture to forget, and the prompt of its pseudo label.
        retained: prompt of each picture to retain.

    Raises:
        InputError: a concept has no surrogate and ``pseudo`` is not set.
    """

    def __init__(
        self, config: RelabelConfig, model: StableDiffusion, concepts: Sequence[Concept], knowledge: Sequence[Knowledge], seed: int
    ) -> None:
        self.config, self.model, self.generator = config, model, torch.Generator().manual_seed(seed)
        rng = random.Random(seed)
        pairs, plain = [], []
        for concept, words in zip(concepts, knowledge, strict=True):
            other, names = stand_in(concept, words, config.pseudo), names_of(concept, words, config.words)
            pairs.append([(c.format(name), c.format(other)) for c in words.contexts for name in names])
            plain += [c.format(word) for c in words.unrelated_contexts for word in ([config.retain] if config.retain else words.unrelated)]
            rng.shuffle(pairs[-1])
        rng.shuffle(plain)
        n = min(config.n_pictures, config.batch) if config.first_batch_only else config.n_pictures
        n = n if config.iterations else 0
        turns = [pairs[i % len(pairs)] for i in range(n)]
        self.prompts = [own[i // len(pairs) % len(own)] for i, own in enumerate(turns)]
        self.retained = [plain[i % len(plain)] for i in range(n)]
        self._texts = Texts(model, ["", *(text for pair in self.prompts for text in pair), *self.retained])
        self.empty = self._texts([""])
        latents = draw_latents(
            model, self._texts, [shown for shown, _ in self.prompts] + self.retained, self.generator,
            num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale,
        )  # fmt: skip
        self._forgotten, self._kept = latents[:n], latents[n:]
        self._forget_picks, self._retain_picks = (picks(n, config.batch, self.generator) for _ in range(2))

    def batch(self, *, retain: bool = True) -> Batch:
        """The next pictures to forget and, if wanted, as many to retain, with new noise."""
        rows = next(self._forget_picks).tolist()
        kept = next(self._retain_picks).tolist() if retain else []
        clean = torch.cat([self._forgotten[rows], self._kept[kept]])
        noise, timesteps = noise_for(self.model, clean, self.generator)
        states = self._texts([*(self.prompts[i][0] for i in rows), *(self.retained[i] for i in kept)])
        return Batch(clean, noise, timesteps, states, len(rows), self._texts(self.prompts[i][1] for i in rows))
