"""AdvUnlearn (Zhang et al., arXiv 2405.15234): the text encoder unlearns attacked prompts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import DiffusionModel
from .._shared.generated_data import Texts
from .._shared.prompts import concept_prompts, retain_prompts
from .._shared.student import TextStudent
from .._shared.trainer import train
from ..base import Change, Eraser, Job, Need
from .attack import attacked, with_prefix
from .config import PRESETS, AdvUnlearnConfig
from .pool import Batch, Pool


class AdvUnlearn(Eraser[AdvUnlearnConfig]):
    """Train the text encoders towards ESD's target, behind a prefix that an attack chooses at each step.

    Attack: ``min over the prefix's embeddings of mean |eps(x, h(prefix, c)) - eps*(x, h*(c))|^2``, ``*`` the
        original.
    Training: ``mean |eps(x, h(prefix, c)) - target|^2 + w mean |eps(x, h(r)) - eps*(x, h*(r))|^2`` with the
    target ``eps*('') - g (eps*(c) - eps*(''))`` and retain prompts ``r``. The denoiser ``eps`` is frozen.
    Each attack starts at random words. The empty prompt is a retain prompt, since guidance reads it for every
    image. Several concepts have equal parts of the pool. Of several trained encoders, the attack chooses the
    embeddings of each one's prefix together; the others read the tokens at which it starts.

    Cost: the pools; then a call of each network for each iteration, and for each step of each attack.

    Differs from the release:
        - Partial samples are made once for the original's prompt embeddings, which do not depend on what is
          trained; the release makes a new one for each step of each attack.
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
        student = TextStudent.of(job.model, self.config.encoders, pooled=True)
        # the empty prompt counts as one of them: guidance reads it for every image
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
        text = job.model.text
        main = text.main
        n_attacks = max(0, config.iterations - config.warm_up) if config.attack_steps else 0
        concept, unrelated = self._pools(job, prompts, retain, n_attacks)
        targets = concept.targets(job.model, config.negative_guidance)
        prefixed = with_prefix(job.model, prompts, config.prefix, count_words=config.count_words)
        shape = (n_attacks, config.batch, config.prefix)
        # drawn all at once: listing a large vocabulary takes longer than drawing from it
        starts = (
            torch.tensor(main.random_tokens(math.prod(shape), generator)).view(shape).to(job.model.device)
        )
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)

        def loss_at(step: int) -> Tensor:
            picks = torch.randint(len(prompts), (config.batch,), generator=generator)
            others = torch.randint(len(retain), (config.retain_batch,), generator=generator)
            attack = step - (config.iterations - n_attacks)  # below 0 in the warm-up
            tokens = concept.tokens[picks] if attack < 0 else prefixed[picks]
            if attack >= 0:
                tokens.ids[:, main.start : main.start + config.prefix] = starts[attack]
            source = text.source(tokens, student.encoders)
            if attack >= 0:
                source = attacked(config, student.model, source, concept, picks, generator)
            kept = text.source(unrelated.tokens[others], student.encoders)
            own = concept.batch(source, picks, targets, generator)
            beside = unrelated.batch(kept, others, unrelated.outputs, generator)
            student.requires_grad_(True)
            batch = Batch.cat([own, beside])
            return adv_unlearn_loss(student.model, batch, config.batch, config.retain_weight)

        def after_step() -> None:
            student.requires_grad_(False)  # the next attack needs no gradient of them

        train(job, student.parameters, optimizer, config.iterations, loss_at, after_step=after_step)

    def _pools(self, job: Job, prompts: list[str], retain: list[str], n_attacks: int) -> tuple[Pool, Pool]:
        """Samples of the concepts and of the retain prompts, no more than training and attacks can use."""
        config = self.config
        texts = Texts(job.model, [*prompts, *retain])
        # each attack step takes samples too
        uses = config.batch * (config.iterations + n_attacks * config.attack_steps)
        concept = Pool.of(config, job.model, texts, prompts, uses, job.generator)
        uses = config.retain_batch * config.iterations
        return concept, Pool.of(config, job.model, texts, retain, uses, job.generator)


def adv_unlearn_loss(student: DiffusionModel, batch: Batch, n: int, weight: float) -> Tensor:
    """``mean |eps(x, h) - target|^2`` of the first ``n`` samples, plus ``weight`` times that of the others.

    Costs a call of each network.
    """
    cond = student.encode_source(batch.source)
    output = student.predict(batch.latents, batch.timesteps, cond)
    # each loss is a mean over its own part: the weight does not depend on the two batch sizes
    return F.mse_loss(output[:n], batch.targets[:n]) + weight * F.mse_loss(output[n:], batch.targets[n:])
