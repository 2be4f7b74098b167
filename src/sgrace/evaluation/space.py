"""How well the candidates of attacks cover the concept, in text and in denoiser features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._util.errors import InputError
from .._util.tensors import save_tensors_atomically
from ..attacks import AttackSet, Scene
from ..knowledge import Knowledge
from ..models import Conditioning, DiffusionModel
from .concept_space import denoiser_features, space_rows, text_features
from .schema import SpaceRow

LEAST = 8  # candidates of an attack: fewer span no space
RANDOM_LENGTH = 8  # content tokens of the random prompts


class ConceptPrompts(NamedTuple):
    """Prompts that mark a concept's space: two halves of its own, and those of near concepts."""

    reference: list[str]
    held_out: list[str]
    neighbours: list[str]


@torch.no_grad()
def concept_space(
    scene: Scene,
    original: DiffusionModel,
    sets: Mapping[str, AttackSet],
    n: int,
    seed: int,
    features_file: Path,
) -> list[dict[str, Any]]:
    """Compare the target's features of the candidates with the original's features of the concept's prompts.

    Args:
        scene: target, words and concept.
        original: the model before erasing.
        sets: attempts by attack.
        n: prompts of each group.
        seed: of the choice of prompts.
        features_file: where the features are stored.

    Raises:
        InputError: the word lists make fewer than 20 prompts of the concept.
    """
    generator = torch.Generator().manual_seed(seed)
    prompts = concept_prompts(scene.words, n, generator)
    groups = {"random": random_prompts(scene.target, original, n // 2, generator)}
    groups |= candidates(scene.target, sets)
    reference = original.encode(prompts.reference)
    held_out = original.encode(prompts.held_out)
    neighbours = original.encode(prompts.neighbours)
    uncond = original.uncond()

    spaces: dict[str, Callable[[Conditioning], Tensor]] = {
        "text": text_features,
        "denoiser": lambda cond: denoiser_features(original, cond, uncond),
    }
    rows: list[SpaceRow] = []
    stored: dict[str, Tensor] = {}
    for space, features in spaces.items():
        known = {
            "concept": features(reference),
            "held out": features(held_out),
            "neighbours": features(neighbours),
        }
        found = {name: features(group) for name, group in groups.items()}
        rows += space_rows(space, known["concept"], known["held out"], known["neighbours"], found)
        stored |= {f"{space}/{name}": value.contiguous() for name, value in {**known, **found}.items()}
    save_tensors_atomically(features_file, stored)
    return [row.model_dump() for row in rows]


def concept_prompts(words: Knowledge, n: int, generator: torch.Generator) -> ConceptPrompts:
    """Up to ``2 n`` prompts of the concept in two halves, and n of its neighbours.

    Raises:
        InputError: there are fewer than 20 prompts of the concept.
    """

    def pick(contexts: Sequence[str], names: Sequence[str], size: int) -> list[str]:
        pairs = [context.format(name) for context in contexts for name in names]
        return [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:size].tolist()]

    concept = pick(words.contexts, words.related, 2 * n)
    half = len(concept) // 2
    if half < 10:
        raise InputError(
            f"The concept space needs 20 prompts of the concept; the word lists make {len(concept)}."
        )
    near = pick(words.unrelated_contexts, words.replacements or words.unrelated, n)
    return ConceptPrompts(concept[:half], concept[half:], near)


def random_prompts(
    target: DiffusionModel, original: DiffusionModel, n: int, generator: torch.Generator
) -> Conditioning:
    """Prompts of random ordinary tokens, as the target reads them."""
    pool = original.text.main.ordinary_tokens().tolist()
    contents = []
    for _ in range(n):
        picks = torch.randint(len(pool), (RANDOM_LENGTH,), generator=generator).tolist()
        contents.append([pool[i] for i in picks])
    return target.encode_tokens(target.text.main.assemble(contents))


def candidates(target: DiffusionModel, sets: Mapping[str, AttackSet]) -> dict[str, Conditioning]:
    """The candidates of each attack that tried enough of them."""
    groups: dict[str, Conditioning] = {}
    for name, found in sets.items():
        tried = [i for i, attempt in enumerate(found.attempts) if attempt.checks]
        texts = [found.attempts[i].candidate for i in tried if found.attempts[i].candidate is not None]
        if "prompt_embeds" in found.tensors and len(tried) >= LEAST:
            embeds = found.tensors["prompt_embeds"][tried].to(target.device)
            groups[name] = target.uncond().expand(len(tried)).with_embeds(embeds)
        elif len(texts) >= LEAST:
            groups[name] = target.encode([text or "" for text in texts])
    return groups
