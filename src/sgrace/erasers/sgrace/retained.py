"""What the second stage keeps: retain prompts, and the original's sampling paths of some of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...models import Conditioning, DiffusionModel
from .._shared.generated_data import encoded, noise_for
from .._shared.paths import Paths
from ..base import Job
from .calls import DRAWN, Calls
from .config import SGraceConfig
from .constants import Constants
from .likeness import unlikeness
from .retain import retain_prompts, unit_features
from .subject import Subject

#: Share of the retained calls of a sampling path that are those for the empty prompt, which guidance makes.
EMPTY_SHARE = 0.3
#: Weight of retained calls at levels at which nothing is erased, where others have 1: keeping costs nothing
#: there. An error at such a level stays in the image, for no later step repairs it.
QUIET_WEIGHT = 6.0
#: Tokens of the vocabulary, drawn by chance, among which the nearest to the concept are sought.
SEARCHED = 2048
#: A word draws something else than the concept if the concept's word, put in its place, raises the denoising
#: error of its image at least so many times. Another name of the concept leaves the error nearly as it is.
APART = 1.5
#: Words of the concepts with which each is compared: those nearest to it.
COMPARED = 3
#: Contexts of each such word. Without them most retain prompts would have a listed word.
CONTEXTS = 3


class Unlisted(NamedTuple):
    """A word of the vocabulary in some contexts, and the concepts' words that are nearest to it."""

    word: str
    contexts: tuple[str, ...]
    nearest: tuple[str, ...]

    @property
    def prompts(self) -> list[str]:
        """The word in its contexts; the first of them has a path."""
        return [context.format(self.word) for context in self.contexts]


@dataclass(frozen=True)
class Retained:
    """Retain prompts, and sampling paths of some of them, which the denoiser is to answer as before.

    Attributes:
        paths: of the first prompts, with the original's outputs.
        prompted: numbers of the paths' calls with a prompt; the others are those for the empty one.
        empty: numbers of these; none where the model has learned to do without guidance.
        frozen: the original's conditioning of all prompts, the empty one last.
        erased: the trained encoder's.
    """

    paths: Paths
    prompted: Int[Tensor, " calls"]
    empty: Int[Tensor, " others"]
    frozen: Conditioning
    erased: Conditioning

    @classmethod
    @torch.no_grad()
    def of(cls, config: SGraceConfig, job: Job, text: DiffusionModel, constants: Constants) -> Self:
        """The listed prompts, and those of the vocabulary that do not draw a concept.

        As many as ``path_prompts`` have paths, the unlisted first: their images say what they draw.
        """
        listed = retain_prompts(
            config.model_copy(update={"random_share": 0.0, "near_share": config.path_near_share}),
            job,
            constants.subjects,
        )[:-1]
        job.rng.shuffle(listed)
        subjects = constants.subjects
        unlisted = [row for subject in subjects for row in words_around(config, job, subjects, subject)]
        prompts = [*(row.prompts[0] for row in unlisted), *listed]
        frozen = encoded(job.model, prompts)
        n = min(config.path_prompts, len(prompts))
        paths = constants.paths(frozen[:n])
        kept = torch.ones(len(prompts), dtype=torch.bool, device=job.model.device)
        if unlisted:
            own = slice(0, len(unlisted))
            kept[own] = draw_else(job, unlisted, frozen[own], paths.images[own])
        paths = paths.of(kept[:n])
        picks = kept.nonzero().flatten()
        prompts = [prompts[i] for i in picks.tolist()]
        rows = itertools.compress(unlisted, kept.tolist())
        elsewhere = [prompt for row in rows for prompt in row.prompts[1:]]
        more = [encoded(job.model, elsewhere)] if elsewhere else []
        frozen = Conditioning.cat([frozen[picks], *more, constants.uncond])
        erased = frozen
        if text is not job.model:
            erased = Conditioning.cat([encoded(text, [*prompts, *elsewhere]), text.uncond()])
        empty = paths.empty
        return cls(paths, (~empty).nonzero().flatten(), empty.nonzero().flatten(), frozen, erased)

    @torch.no_grad()
    def calls(self, config: SGraceConfig, job: Job) -> Calls:
        """Half are calls of the sampling paths as they were; half are the paths' images, noised anew.

        The first cost nothing. The others cost a call of the original, and show it more noise levels and
        prompts than the paths have: half of them have another retain prompt than the image's own.
        """
        anew = config.denoiser_retain // 2
        found = Calls.cat([self._noised(job, anew), self._stored(job, config.denoiser_retain - anew)])
        quiet = found.timesteps < job.model.schedule.timestep_at(DRAWN)
        return replace(found, scales=torch.where(quiet, 1 / QUIET_WEIGHT, 1.0))

    def _stored(self, job: Job, n: int) -> Calls:
        """Calls of the sampling paths, with the outputs of then."""
        of_empty = round(EMPTY_SHARE * n) if len(self.empty) else 0
        picks = torch.cat(
            [
                self.prompted[self._any(job, len(self.prompted), n - of_empty)],
                self.empty[self._any(job, len(self.empty), of_empty)],
            ]
        )
        path = self.paths[picks]
        # the empty prompt is the last of all
        own = torch.where(path.empty, len(self.frozen) - 1, path.prompts)
        return Calls(
            path.latents, path.timesteps, self.erased[own], path.outputs, torch.ones_like(path.timesteps)
        )

    def _noised(self, job: Job, n: int) -> Calls:
        """Images at the paths' ends at any noise level, with their own prompt or any other."""
        model = job.model
        own = self._any(job, len(self.paths.images), n)
        images = self.paths.images[own]
        timesteps = model.schedule.sample_timesteps(n, job.generator).to(model.device)
        latents = model.schedule.add_noise(images, noise_for(model, images, job.generator).noise, timesteps)
        prompts = torch.cat([own[: n // 2], self._any(job, len(self.frozen), n - n // 2)])
        outputs = model.predict(latents, timesteps, self.frozen[prompts])
        return Calls(latents, timesteps, self.erased[prompts], outputs, torch.ones_like(timesteps))

    @staticmethod
    def _any(job: Job, size: int, n: int) -> Int[Tensor, " n"]:
        # none of none: a range may not be empty
        return torch.randint(max(1, size), (n,), generator=job.generator).to(job.model.device)


def words_around(
    config: SGraceConfig, job: Job, subjects: Sequence[Subject], subject: Subject
) -> list[Unlisted]:
    """Words of the vocabulary in contexts: those whose text is nearest to the concept's, and any others.

    Words that nobody listed are lost first where they look like the concept.
    """
    n = round(config.path_random_share * config.path_prompts) // len(job.targets)
    if n == 0:
        return []
    main = job.model.text.main
    tokens = dict.fromkeys(main.random_tokens(SEARCHED, job.generator))
    words = [word for word in dict.fromkeys(main.decode([token]).strip() for token in tokens) if word]
    names = [*subject.names, *(name for each in subjects if each is not subject for name in each.names)]
    # (words, features) x (features, names)
    cosines = unit_features(job.model, words) @ unit_features(job.model, names).T
    nearest = cosines.topk(min(COMPARED, len(names)), dim=1).indices.tolist()
    order = cosines[:, : len(subject.names)].amax(1).argsort(descending=True).tolist()
    n_near = round(config.path_near_share * n)
    others = order[n_near:]
    chosen = [*order[:n_near], *job.rng.sample(others, min(n - n_near, len(others)))]
    contexts = subject.words.unrelated_contexts
    n_contexts = min(CONTEXTS, len(contexts))
    return [
        Unlisted(words[i], tuple(job.rng.sample(contexts, n_contexts)), tuple(names[j] for j in nearest[i]))
        for i in chosen
    ]


@torch.no_grad()
def draw_else(
    job: Job, rows: Sequence[Unlisted], own: Conditioning, images: Float[Tensor, "rows ..."]
) -> Bool[Tensor, " rows"]:
    """Whether each prompt draws something else than its concept, by the denoiser's errors at its image.

    A word that is another name of the concept is explained by the concept's words as well as by itself.

    Args:
        job: the original model and the sources of random choices.
        rows: the prompts.
        own: their conditioning.
        images: clean latents that they drew.
    """
    named = [[row.contexts[0].format(name) for name in row.nearest] for row in rows]
    return unlikeness(job, images, own, named) >= APART
