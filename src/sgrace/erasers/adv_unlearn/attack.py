"""The attack of AdvUnlearn: a prefix under which the student shows the concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from ...models import DiffusionModel, PromptSource, Tokens
from .._shared.embedding_attack import Embeddings, attack_embeddings, gradient_batch
from .config import AdvUnlearnConfig
from .pool import Pool


def attacked(
    config: AdvUnlearnConfig,
    student: DiffusionModel,
    source: PromptSource,
    concept: Pool,
    prompts: Int[Tensor, " n"],
    generator: torch.Generator,
) -> PromptSource:
    """Input embeddings whose prefix lowers ``mean |eps(x, h(prefix, c)) - eps*(x, h*(c))|^2``.

    Each step takes other samples of the same prompts, and costs a call of each network.

    Args:
        config: settings.
        student: whose text encoders read the prefix.
        source: the prefix and what follows it, with the embeddings of the encoders whose own are chosen.
        concept: samples to be brought back.
        prompts: index of a prompt of the pool for each row.
        generator: of the choice of samples.
    """
    mask = {}
    for name, start in source.embeddings.items():
        positions = torch.arange(start.shape[1], device=start.device) - student.text[name].start
        # the prefix is the first content; one mask for all rows: (length,) -> (1, length, 1)
        mask[name] = ((positions >= 0) & (positions < config.prefix)).float()[None, :, None]
    # picked before the attack, so that its pieces of a batch do not change the choices
    samples = [concept.samples_of(prompts, generator) for _ in range(config.attack_steps)]

    def loss_at(embeddings: Embeddings, rows: slice, step: int) -> Tensor:
        chosen = samples[step][rows]
        cond = student.encode_source(replace(source[rows], embeddings=embeddings))
        output = student.predict(concept.latents[chosen], concept.timesteps[chosen], cond)
        return F.mse_loss(output, concept.outputs[chosen])

    found = attack_embeddings(
        source.embeddings,
        mask,
        loss_at,
        steps=config.attack_steps,
        lr=config.attack_lr,
        radius=0.0,
        optimizer=config.attack,
        projection="none",
        batch_size=gradient_batch(student),
        accumulate=config.accumulate,
    )
    return replace(source, embeddings=found)


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
        # what comes after `at` gives way to the prefix, token by token
        contents.append([0] * prefix + content[:at] + content[at + prefix :])
    return main.assemble(contents)
