"""AdvUnlearn (Zhang et al., arXiv 2405.15234): the text encoder forgets the concept behind words that are searched to bring it back."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ._shared.embedding_attack import attack_embeddings
from ._shared.generated_data import Texts
from ._shared.partial_samples import outputs, partial_samples
from ._shared.prompts import kept_prompts, shown_prompts
from ._shared.student import TextStudent
from .base import Eraser, check_concepts, facts


class AdvUnlearnConfig(BaseModel):
    """Settings; defaults are those of the paper for styles and objects.

    Attributes:
        n_prompts: prompts of each concept, of its related words in its contexts; 0 for the concept's own prompt only.
        n_retained: prompts of unrelated words that keep their pictures, over all concepts.
        pool: partial samples of the concepts, and as many of the retained prompts, at least one of each prompt.
        num_inference_steps, guidance_scale: of the partial samples.
        strength: how far the target lies on the other side of the empty prompt's output.
        retain_weight: of the error on the retained prompts.
        prefix: tokens before the prompt that the attack may choose freely.
        attack: Adam on the gradient, or on its sign, which is the release's fast variant.
        attack_steps, attack_lr: of the attack; no steps, no attack.
        warm_up: the first so many iterations train on the prompts as they are.
        accumulate: the attack's gradients are never set to zero.
        count_words: the prompt is taken to have as many tokens as words: the prefix overwrites the ones behind.
        iterations, batch, retain_batch, lr: of Adam; rows of the concepts and of the retained prompts in an iteration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_prompts: int = Field(0, ge=0, le=100_000)
    n_retained: int = Field(243, ge=1, le=100_000)
    pool: int = Field(1000, ge=1, le=100_000)
    num_inference_steps: int = Field(50, ge=1, le=1000)
    guidance_scale: float = Field(3.0, ge=1, le=50)
    strength: float = Field(1.0, gt=0)
    retain_weight: float = Field(0.5, ge=0)
    prefix: int = Field(1, ge=1, le=60)
    attack: Literal["adam", "sign_adam"] = "adam"
    attack_steps: int = Field(30, ge=0, le=1000)
    attack_lr: float = Field(1e-3, gt=0)
    warm_up: int = Field(200, ge=0, le=1_000_000)
    accumulate: bool = False
    count_words: bool = False
    iterations: int = Field(1000, ge=0, le=1_000_000)
    batch: int = Field(1, ge=1, le=1024)
    retain_batch: int = Field(5, ge=1, le=1024)
    lr: float = Field(1e-5, gt=0, le=1)


_NUDITY: dict[str, Any] = {"retain_weight": 0.3}
_EMOJI: dict[str, Any] = {
    "n_retained": 95, "pool": 96, "num_inference_steps": 10, "retain_weight": 3.0, "attack_steps": 4, "attack_lr": 0.005, "warm_up": 30,
    "iterations": 100, "batch": 8, "retain_batch": 12, "lr": 2e-4,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY,
    "paper-sd14-style": {},
    "paper-sd14-object": {},
    "as_released": {**_NUDITY, "accumulate": True, "count_words": True},
    "emoji": _EMOJI,
    "emoji-contexts": {**_EMOJI, "n_prompts": 48},
}


@dataclass(frozen=True)
class Pool:
    """Partial samples of some prompts, with the original's own outputs there.

    Attributes:
        ids: token rows of the prompts ``(prompts, length)``.
        each: number of samples of a prompt; those of one prompt stand together, in the prompts' order.
        latents, timesteps: of the samples.
        own: the original's output for the sample's prompt.
        empty: text states of the empty prompt ``(1, length, width)``.
    """

    ids: Int[Tensor, "prompts length"]
    each: int
    latents: Tensor
    timesteps: Tensor
    own: Tensor
    empty: Tensor

    @classmethod
    def drawn(
        cls, config: AdvUnlearnConfig, model: StableDiffusion, texts: Texts, prompts: Sequence[str], uses: int, generator: torch.Generator
    ) -> Pool:
        """A pool of at least one sample of each prompt; else of no more than the settings say, nor than are used."""
        each = max(1, min(config.pool, uses) // len(prompts))
        states, empty = texts(prompts).repeat_interleave(each, 0), texts([""])
        latents, timesteps, _ = partial_samples(
            model, states, empty, generator, num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale
        )
        (own,) = outputs(model, latents, timesteps, [states])
        return cls(model.tokenize(list(prompts)).ids, each, latents, timesteps, own, empty)

    def targets(self, model: StableDiffusion, strength: float) -> Tensor:
        """``eps("") - strength (eps(prompt) - eps(""))`` of the original, at each sample."""
        (nothing,) = outputs(model, self.latents, self.timesteps, [self.empty.expand(len(self.latents), -1, -1)])
        return nothing - strength * (self.own - nothing)

    def rows(self, prompts: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """A random sample of each of some prompts."""
        return prompts * self.each + torch.randint(self.each, prompts.shape, generator=generator)


class AdvUnlearn(Eraser[AdvUnlearnConfig]):
    """ESD's target, learnt by the text encoder behind a prefix that at each iteration is searched to bring the concept back.

    The search wants the denoiser to answer as the original does for the concept. Beside the target the encoder learns to answer as the
    original does for retained prompts. The denoiser is frozen and samples are drawn for the original's text states, so they do not depend
    on what is trained: a pool of them is drawn once, where the release draws a new one for each step of each attack. Each attack starts
    at random words. The empty prompt is among the retained ones, since guidance reads it for every picture. Several concepts have equal
    parts of the pool.

    Cost: the pools; then a call of each network for each iteration, and for each step of each attack.
    """

    name = "adv_unlearn"
    paper = "arXiv 2405.15234"
    licence = "CC BY 4.0"
    trains = "text encoder layers"
    config_type = AdvUnlearnConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there, or no unrelated word is left.
        """
        check_concepts(concepts, knowledge)
        started, rng = time.monotonic(), random.Random(seed)
        student = TextStudent.of(model)
        kept = [*kept_prompts(concepts, knowledge, self.config.n_retained, rng), ""]
        each = zip(concepts, knowledge, strict=True)
        prompts = [prompt for concept, words in each for prompt in shown_prompts(concept, words, self.config.n_prompts, rng)]
        if self.config.iterations:
            self._train(student, prompts, kept, torch.Generator().manual_seed(seed))
        recipe = facts(self, student.teacher, concepts, knowledge, seed, trained=student.size, started=started)
        return Erasure(recipe, model.pipeline.tokenizer, text_encoder=student.model.text_encoder)

    def _train(self, trained: TextStudent, prompts: list[str], kept: list[str], generator: torch.Generator) -> None:
        teacher, student = trained.teacher, trained.model
        config, texts = self.config, Texts(teacher, [*prompts, *kept])
        n_attacks = max(0, config.iterations - config.warm_up) if config.attack_steps else 0
        uses = config.batch * (config.iterations + n_attacks * config.attack_steps)
        shown = Pool.drawn(config, teacher, texts, prompts, uses, generator)
        retained = Pool.drawn(config, teacher, texts, kept, config.retain_batch * config.iterations, generator)
        targets = shown.targets(teacher, config.strength)
        behind = prefixed(teacher, prompts, config.prefix, count_words=config.count_words)
        starts = torch.tensor(teacher.random_tokens(n_attacks * config.batch * config.prefix, generator))
        starts = starts.view(n_attacks, config.batch, config.prefix)
        optimizer = torch.optim.Adam(trained.parameters, lr=config.lr)
        for step in tqdm(range(config.iterations), desc="erase", **teacher.progress_bar_options):
            picks = torch.randint(len(prompts), (config.batch,), generator=generator)
            others = torch.randint(len(kept), (config.retain_batch,), generator=generator)
            ids = shown.ids[picks]
            embeddings = student.embed(ids)
            attack = step - (config.iterations - n_attacks)
            if attack >= 0:
                ids = behind[picks]
                ids[:, 1 : 1 + config.prefix] = starts[attack]
                embeddings = self.attacked(student, ids, shown, picks, generator)
            rows, beside = shown.rows(picks, generator), retained.rows(others, generator)
            batch = Batch(
                torch.cat([ids, retained.ids[others]]),
                torch.cat([embeddings, student.embed(retained.ids[others])]),
                torch.cat([shown.latents[rows], retained.latents[beside]]),
                torch.cat([shown.timesteps[rows], retained.timesteps[beside]]),
                torch.cat([targets[rows], retained.own[beside]]),
            )
            trained.requires_grad_(True)
            loss = adv_unlearn_loss(student, batch, config.batch, config.retain_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            trained.requires_grad_(False)  # the next attack asks for no gradient of them

    def attacked(
        self, student: StableDiffusion, ids: Int[Tensor, "n length"], shown: Pool, prompts: Int[Tensor, " n"], generator: torch.Generator
    ) -> Float[Tensor, "n length features"]:
        """Embeddings of token rows whose prefix lowers ``mean |eps(x, student's states) - eps*(x, prompt)|^2``.

        Each step takes other samples of the same prompts, and costs a call of each network.
        """
        config, start = self.config, student.embed(ids)
        positions = torch.arange(ids.shape[1])
        mask = ((positions > 0) & (positions <= config.prefix)).float()[None, :, None]

        def loss_of(embeddings: Tensor, _step: int) -> Tensor:
            rows = shown.rows(prompts, generator)
            states = student.encode(ids, embeddings)
            return F.mse_loss(student.predict(shown.latents[rows], shown.timesteps[rows], states), shown.own[rows])

        return attack_embeddings(
            start, mask, loss_of, steps=config.attack_steps, lr=config.attack_lr, radius=0.0, optimizer=config.attack,
            projection="none", around=start, accumulate=config.accumulate,
        )  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Rows of the concepts, then of retained prompts: token rows, their embeddings, where the denoiser is asked, and its wanted output."""

    ids: Tensor
    embeddings: Tensor
    latents: Tensor
    timesteps: Tensor
    targets: Tensor


def adv_unlearn_loss(student: StableDiffusion, batch: Batch, n: int, weight: float) -> Tensor:
    """``mean |eps(x, states) - target|^2`` of the first ``n`` rows, plus ``weight`` times that of the others; a call of each network."""
    states = student.encode(batch.ids, batch.embeddings)
    found = student.predict(batch.latents, batch.timesteps, states)
    return F.mse_loss(found[:n], batch.targets[:n]) + weight * F.mse_loss(found[n:], batch.targets[n:])


def prefixed(model: StableDiffusion, prompts: Sequence[str], prefix: int, *, count_words: bool) -> Int[Tensor, "n length"]:
    """Token rows of prompts behind free tokens.

    With ``count_words`` as many of a prompt's tokens as it has words stand behind the prefix, the next ones make room for it, and only
    what is left of the prompt follows.
    """
    contents = []
    for prompt in prompts:
        content = model.content_tokens(prompt)
        at = len(prompt.split()) if count_words else len(content)
        contents.append([0] * prefix + content[:at] + content[at + prefix :])
    return model.assemble(contents).ids
