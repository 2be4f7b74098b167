"""AdvUnlearn (Zhang et al., arXiv 2405.15234): the text encoder unlearns attacked prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..models import Conditioning, DiffusionModel, Tokens
from ._shared.embedding_attack import attack_embeddings, gradient_batch
from ._shared.generated_data import Texts
from ._shared.partial_samples import outputs, partial_samples
from ._shared.prompts import concept_prompts, retain_prompts
from ._shared.settings import AdamRate, BatchSize, Count, Iterations, PartialGuidance, PartialSteps
from ._shared.student import TextStudent
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need


class AdvUnlearnConfig(Settings):
    """Settings; defaults are those of the paper for styles and objects."""

    n_prompts: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Prompts of each concept, of its related words in its contexts; 0 for the concept's own "
        "prompt only.",
    )
    n_retain: Count = Field(243, description="Retain prompts, over all concepts.")
    pool: Count = Field(
        1000,
        description="Partial samples of the concepts, and as many of the retain prompts; at least one of "
        "each prompt.",
    )
    num_inference_steps: PartialSteps = 50
    guidance_scale: PartialGuidance = 3.0
    negative_guidance: float = Field(
        1.0, gt=0, description="g: how far the target lies on the other side of the empty prompt's output."
    )
    retain_weight: float = Field(0.5, ge=0, description="Weight of the retain loss.")
    prefix: int = Field(
        1, ge=1, le=60, description="Tokens before the prompt whose embeddings the attack chooses."
    )
    attack: Literal["adam", "sign_adam"] = Field(
        "adam",
        description="The attack is Adam on the gradient, or on its sign, which is the release's fast "
        "variant.",
    )
    attack_steps: int = Field(
        30, ge=0, le=1000, description="Steps of each attack; 0 switches the attack off."
    )
    attack_lr: float = Field(1e-3, gt=0, description="Learning rate of the attack.")
    warm_up: Iterations = Field(200, description="First training steps, without an attack.")
    accumulate: bool = Field(
        False, description="Reproduce the release, which never sets the gradients of the attack to zero."
    )
    count_words: bool = Field(
        False,
        description="Reproduce the release, which counts words instead of tokens, so that the prefix "
        "overwrites tokens of the prompt.",
    )
    iterations: Iterations = 1000
    batch: BatchSize = Field(1, description="Samples of the concepts in a training step.")
    retain_batch: BatchSize = Field(5, description="Samples of the retain prompts in a training step.")
    lr: AdamRate = 1e-5


_NUDITY_PRESET: dict[str, Any] = {"retain_weight": 0.3}
_EMOJI_PRESET: dict[str, Any] = {
    "n_retain": 95, "pool": 96, "num_inference_steps": 10, "retain_weight": 3.0, "attack_steps": 4,
    "attack_lr": 0.005, "warm_up": 30, "iterations": 100, "batch": 8, "retain_batch": 12, "lr": 2e-4,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": _NUDITY_PRESET,
    "paper-sd14-style": {},
    "paper-sd14-object": {},
    "as-released": {**_NUDITY_PRESET, "accumulate": True, "count_words": True},
    "emoji": _EMOJI_PRESET,
    "emoji-contexts": {**_EMOJI_PRESET, "n_prompts": 48},
}


@dataclass(frozen=True)
class Pool:
    """Partial samples of some prompts, with the original's own outputs there.

    Attributes:
        tokens: of the prompts.
        each: number of samples of a prompt; those of one prompt stand together, in the prompts' order.
        latents, timesteps: of the samples.
        outputs: the original's output for the sample's prompt.
        uncond: the empty prompt.
    """

    tokens: Tokens
    each: int
    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    outputs: Float[Tensor, "n ..."]
    uncond: Conditioning

    @classmethod
    def of(
        cls,
        config: AdvUnlearnConfig,
        model: DiffusionModel,
        texts: Texts,
        prompts: Sequence[str],
        uses: int,
        generator: torch.Generator,
    ) -> Self:
        """A pool of at least one sample of each prompt; else of no more than the settings say or are used."""
        each = max(1, min(config.pool, uses) // len(prompts))
        cond = texts(prompts).repeat_interleave(each)
        uncond = texts([""])
        found = partial_samples(
            model,
            cond,
            uncond,
            generator,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        own = outputs(model, found.latents, found.timesteps, [cond])[0]
        return cls(model.text.main.tokenize(prompts), each, found.latents, found.timesteps, own, uncond)

    def targets(self, model: DiffusionModel, negative_guidance: float) -> Float[Tensor, "n ..."]:
        """``eps('') - g (eps(prompt) - eps(''))`` of the original, at each sample."""
        uncond = outputs(model, self.latents, self.timesteps, [self.uncond.expand(len(self.latents))])[0]
        return uncond - negative_guidance * (self.outputs - uncond)

    def samples_of(self, prompts: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """Index of a random sample of each of some prompts."""
        return prompts * self.each + torch.randint(self.each, prompts.shape, generator=generator)


@dataclass(frozen=True)
class Batch:
    """Samples of the concepts, then of retain prompts.

    Attributes:
        tokens: of the prompts that the student reads.
        embeddings: their input embeddings.
        latents, timesteps: where the denoiser is asked.
        targets: what it should return.
    """

    tokens: Tokens
    embeddings: Float[Tensor, "n length width"]
    latents: Float[Tensor, "n ..."]
    timesteps: Float[Tensor, " n"]
    targets: Float[Tensor, "n ..."]


class AdvUnlearn(Eraser[AdvUnlearnConfig]):
    """Train the text encoder towards ESD's target, behind a prefix that an attack chooses at each step.

    Attack: ``min over the prefix's embeddings of mean |eps(x, h(prefix, c)) - eps*(x, h*(c))|^2``, ``*`` the
        original.
    Training: ``mean |eps(x, h(prefix, c)) - target|^2 + w mean |eps(x, h(r)) - eps*(x, h*(r))|^2`` with the
    target ``eps*('') - g (eps*(c) - eps*(''))`` and retain prompts ``r``. The denoiser ``eps`` is frozen.
    Each attack starts at random words. The empty prompt is a retain prompt, since guidance reads it for every
    image. Several concepts have equal parts of the pool.

    Cost: the pools; then a call of each network for each iteration, and for each step of each attack.

    Differs from the release:
        - Partial samples are made once for the original's prompt embeddings, which do not depend on what is
          trained; the
          release makes a new one for each step of each attack.
    """

    name = "adv_unlearn"
    paper = "arXiv 2405.15234"
    licence = "CC BY 4.0"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER})
    changes = "text"
    config_type = AdvUnlearnConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no unrelated word is left.
        """
        student = TextStudent.of(job.model)
        retain = [*retain_prompts(job.targets, self.config.n_retain, job.rng), ""]
        prompts: list[str] = []
        for target in job.targets:
            prompts += concept_prompts(target, self.config.n_prompts, job.rng)
        if self.config.iterations:
            self._train(job, student, prompts, retain)
        return Change(student.changed(), trained=student.size)

    def _train(self, job: Job, student: TextStudent, prompts: list[str], retain: list[str]) -> None:
        config = self.config
        generator = job.generator
        teacher = job.model
        main = teacher.text.main
        texts = Texts(teacher, [*prompts, *retain])
        n_attacks = max(0, config.iterations - config.warm_up) if config.attack_steps else 0
        uses = config.batch * (config.iterations + n_attacks * config.attack_steps)
        concept = Pool.of(config, teacher, texts, prompts, uses, generator)
        unrelated = Pool.of(
            config, teacher, texts, retain, config.retain_batch * config.iterations, generator
        )
        targets = concept.targets(teacher, config.negative_guidance)
        prefixed = with_prefix(teacher, prompts, config.prefix, count_words=config.count_words)
        random_tokens = main.random_tokens(n_attacks * config.batch * config.prefix, generator)
        starts = torch.tensor(random_tokens).view(n_attacks, config.batch, config.prefix).to(teacher.device)
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)

        def loss_at(step: int) -> Tensor:
            picks = torch.randint(len(prompts), (config.batch,), generator=generator)
            others = torch.randint(len(retain), (config.retain_batch,), generator=generator)
            tokens = concept.tokens[picks]
            embeddings = main.embed(tokens.ids)
            attack = step - (config.iterations - n_attacks)
            if attack >= 0:
                tokens = prefixed[picks]
                tokens.ids[:, 1 : 1 + config.prefix] = starts[attack]
                embeddings = self.attacked(student.model, tokens, concept, picks, generator)
            own = concept.samples_of(picks, generator)
            beside = unrelated.samples_of(others, generator)
            batch = Batch(
                Tokens.cat([tokens, unrelated.tokens[others]]),
                torch.cat([embeddings, main.embed(unrelated.tokens.ids[others])]),
                torch.cat([concept.latents[own], unrelated.latents[beside]]),
                torch.cat([concept.timesteps[own], unrelated.timesteps[beside]]),
                torch.cat([targets[own], unrelated.outputs[beside]]),
            )
            student.requires_grad_(True)
            return adv_unlearn_loss(student.model, batch, config.batch, config.retain_weight)

        def after_step() -> None:
            student.requires_grad_(False)  # the next attack needs no gradient of them

        train(job, student.parameters, optimizer, config.iterations, loss_at, after_step=after_step)

    def attacked(
        self,
        student: DiffusionModel,
        tokens: Tokens,
        concept: Pool,
        prompts: Int[Tensor, " n"],
        generator: torch.Generator,
    ) -> Float[Tensor, "n length width"]:
        """Input embeddings whose prefix lowers ``mean |eps(x, h(prefix, c)) - eps*(x, h*(c))|^2``.

        Each step takes other samples of the same prompts, and costs a call of each network.

        Args:
            student: whose text encoder reads the prefix.
            tokens: the prefix and what follows it.
            concept: samples to be brought back.
            prompts: index of a prompt of the pool for each row.
            generator: of the choice of samples.
        """
        config = self.config
        start = student.text.main.embed(tokens.ids)
        positions = torch.arange(tokens.ids.shape[1], device=start.device)
        # (length,) -> (1, length, 1)
        mask = ((positions > 0) & (positions <= config.prefix)).float()[None, :, None]
        samples = [concept.samples_of(prompts, generator) for _ in range(config.attack_steps)]

        def loss_at(embeddings: Tensor, rows: slice, step: int) -> Tensor:
            chosen = samples[step][rows]
            cond = student.encode_tokens(tokens[rows], embeddings)
            output = student.predict(concept.latents[chosen], concept.timesteps[chosen], cond)
            return F.mse_loss(output, concept.outputs[chosen])

        return attack_embeddings(
            start,
            mask,
            loss_at,
            steps=config.attack_steps,
            lr=config.attack_lr,
            radius=0.0,
            optimizer=config.attack,
            projection="none",
            around=start,
            batch_size=gradient_batch(student),
            accumulate=config.accumulate,
        )


def adv_unlearn_loss(student: DiffusionModel, batch: Batch, n: int, weight: float) -> Tensor:
    """``mean |eps(x, h) - target|^2`` of the first ``n`` samples, plus ``weight`` times that of the others.

    Costs a call of each network.
    """
    cond = student.encode_tokens(batch.tokens, batch.embeddings)
    output = student.predict(batch.latents, batch.timesteps, cond)
    return F.mse_loss(output[:n], batch.targets[:n]) + weight * F.mse_loss(output[n:], batch.targets[n:])


def with_prefix(model: DiffusionModel, prompts: Sequence[str], prefix: int, *, count_words: bool) -> Tokens:
    """Token rows of prompts behind tokens that are yet to be chosen.

    With ``count_words``, the prefix is followed by as many of a prompt's tokens as the prompt has words. The
    next tokens make room for the prefix, and only what is left of the prompt follows.
    """
    main = model.text.main
    contents = []
    for prompt in prompts:
        content = main.content_tokens(prompt)
        at = len(prompt.split()) if count_words else len(content)
        contents.append([0] * prefix + content[:at] + content[at + prefix :])
    return main.assemble(contents)
