"""Words that occur with a concept in its images, and the benign ones of them (ReCARE, arXiv 2606.24192)."""

from __future__ import annotations

import random
import re

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...knowledge import Target
from ...models import Conditioning, DiffusionModel
from .generated_data import denoising_errors, noise_for

#: Rounds of k-means; a few hundred words settle in fewer.
CLUSTER_ROUNDS = 20


def candidates(target: Target, taken: set[str], n: int, rng: random.Random) -> list[str]:
    """At most ``n`` words that may occur with a concept, and none of the concepts' own.

    They are its unrelated words and the phrases that stand beside it in its contexts; a phrase that contains
    another candidate is left out.
    """
    phrases = [part.strip(" ,.") for context in target.words.contexts for part in re.split("{}|,", context)]
    found: list[str] = []
    for phrase in sorted(dict.fromkeys([*phrases, *target.words.unrelated]), key=len):
        is_longer = phrase in phrases and any(f" {word} " in f" {phrase} " for word in found)
        if phrase and phrase not in taken and not is_longer:
            found.append(phrase)
    return rng.sample(found, min(len(found), n))


@torch.no_grad()
def shown_counts(
    model: DiffusionModel,
    latents: Float[Tensor, "n ..."],
    words: Conditioning,
    top: int,
    generator: torch.Generator,
) -> Int[Tensor, " words"]:
    """For each word, in how many images it is one of the ``top`` with the least denoising error.

    All words of an image are compared at one noise and one timestep.
    """
    counts = torch.zeros(len(words), dtype=torch.long)
    schedule = model.schedule
    for clean in latents:
        noise, timesteps = noise_for(model, clean[None], generator)
        noisy = schedule.add_noise(clean[None], noise, timesteps)
        wanted = schedule.target(clean[None], noise, timesteps)
        n = len(words)
        errors = denoising_errors(
            model, noisy.expand(n, *clean.shape), timesteps.expand(n), words, wanted
        ).cpu()
        counts[errors.topk(min(top, n), largest=False).indices] += 1
    return counts


def benign(
    features: Float[Tensor, "words d"],
    concept: Float[Tensor, " d"],
    n_clusters: int,
    margin: float,
    generator: torch.Generator,
) -> Int[Tensor, " kept"]:
    """Which words are left of both stages of the filter, in their order.

    With unit features ``w`` and the part ``r(w) = w - (w . concept) concept`` beside the concept, the first
    stage leaves out the clusters with the least and the greatest mean ``|r(w)|``. The second leaves out a
    word if the mean feature of its cluster without it has an ``|r|^2`` of more than ``1 + margin`` times the
    mean of that of the cluster's other words.

    Args:
        features: of the words, of length 1.
        concept: feature of the concept's name, of length 1.
        n_clusters: of the first stage.
        margin: of the second stage.
        generator: of the first centres.
    """
    labels = clusters(features, min(n_clusters, len(features) // 3), generator)
    present = labels.unique()
    if len(present) > 2:
        sizes = beside(features, concept).norm(dim=-1)
        means = torch.stack([sizes[labels == label].mean() for label in present])
        present = present[means.argsort()[1:-1]]
    kept = torch.zeros(len(features), dtype=torch.bool)
    for label in present:
        own = (labels == label).nonzero().flatten()
        kept[own[steady(features[own], concept, margin)]] = True
    return kept.nonzero().flatten()


def beside(features: Float[Tensor, "n d"], concept: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """The part of features that is orthogonal to a unit vector."""
    return features - (features @ concept)[:, None] * concept


def steady(features: Float[Tensor, "n d"], concept: Float[Tensor, " d"], margin: float) -> Bool[Tensor, " n"]:
    """Second stage of :func:`benign`, for one cluster; a word alone stays."""
    n = len(features)
    if n < 2:
        return torch.ones(n, dtype=torch.bool)
    without = (features.sum(0) - features) / (n - 1)
    sizes = beside(without, concept).square().sum(-1)
    others = (sizes.sum() - sizes) / (n - 1)
    return (sizes <= (1 + margin) * others).cpu()


def clusters(features: Float[Tensor, "n d"], k: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Label of each feature by k-means; one label for all where ``k`` is below 2."""
    if k < 2:
        return torch.zeros(len(features), dtype=torch.long)
    centres = features[torch.randperm(len(features), generator=generator)[:k]]
    labels = torch.cdist(features, centres).argmin(1)
    for _ in range(CLUSTER_ROUNDS):
        # a centre that nothing is near stays where it is
        centres = torch.stack(
            [features[labels == i].mean(0) if (labels == i).any() else centres[i] for i in range(k)]
        )
        labels = torch.cdist(features, centres).argmin(1)
    return labels.cpu()
