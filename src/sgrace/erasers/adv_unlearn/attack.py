"""The attack of AdvUnlearn: a prefix under which the student shows the concept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...models import DiffusionModel, Tokens
from .._shared.embedding_attack import attack_embeddings, gradient_batch
from .config import AdvUnlearnConfig
from .pool import Pool


def attacked(
    config: AdvUnlearnConfig,
    student: DiffusionModel,
    tokens: Tokens,
    concept: Pool,
    prompts: Int[Tensor, " n"],
    generator: torch.Generator,
) -> Float[Tensor, "n length width"]:
    """Input embeddings whose prefix lowers ``mean |eps(x, h(prefix, c)) - eps*(x, h*(c))|^2``.

    Each step takes other samples of the same prompts, and costs a call of each network.

    Args:
        config: settings.
        student: whose text encoder reads the prefix.
        tokens: the prefix and what follows it.
        concept: samples to be brought back.
        prompts: index of a prompt of the pool for each row.
        generator: of the choice of samples.
    """
    main = student.text.main
    start = main.embed(tokens.ids)
    positions = torch.arange(tokens.ids.shape[1], device=start.device) - main.start
    # the prefix is the first content; one mask for all rows: (length,) -> (1, length, 1)
    mask = ((positions >= 0) & (positions < config.prefix)).float()[None, :, None]
    # picked before the attack, so that its pieces of a batch do not change the choices
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
