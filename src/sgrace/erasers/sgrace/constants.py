"""What stays constant in a run of S-GRACE: latents, goals, replacements, retain prompts."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..._util.device import batches
from ..._util.errors import InputError, InputWarning
from ...concept import Concept, folded
from ...knowledge import Knowledge, Target
from ...models import Conditioning, DiffusionModel, PromptSource, Tokens
from ...models.needs import Need
from .._shared.generated_data import ENCODE_BATCH
from .._shared.paths import Paths, sampling_paths
from .._shared.prompts import own_words
from ..base import Job
from .config import SGraceConfig
from .features import Features
from .replacement import replacement_of
from .retain import PLAIN_PHRASINGS, retain_prompts
from .subject import Points, Subject

NO_PROJECTION = (
    "This model has no text projection, so pooled text states are compared without one. CLIP's own goes into "
    "the model's folder as text_projection.safetensors, with the matrix as `weight`."
)


class Constants:
    """Everything that the original model has to say, computed once.

    Args:
        config: settings.
        job: the original model, the targets and the sources of random choices.

    Attributes:
        encoders: the text encoders that are trained.
        beside: large ones that are not. They run once for what is attacked, and not for what no loss reads.
        subjects: the targets.
        retain: the retain prompts; the empty prompt is one of them.
        retained: what the denoiser reads of them, from the trained encoders.
        ceilings: mean similarity of the retain prompts to each concept, by part of the features, where the
            erase target is the hinge.

    Raises:
        InputError: no replacement may be chosen, no unrelated word is left, or there is no such encoder.
    """

    @torch.no_grad()
    def __init__(self, config: SGraceConfig, job: Job) -> None:
        self.config = config
        self.model: DiffusionModel = job.model
        self.rng: random.Random = job.rng
        self.generator = job.generator
        self.encoders = self.model.text.select(config.encoders)
        self.beside = self.model.text.beside(self.encoders)
        self.uncond = self.model.uncond()
        if config.match_positions == "one" and self.model.text.main.projection is None:
            warnings.warn(NO_PROJECTION, InputWarning, stacklevel=2)
        words = resolved_words(job.targets) if config.retain_words == "filtered" else raw_words(job.targets)
        self.subjects = [
            self._subject(job, concept, own) for concept, own in zip(job.concepts, words, strict=True)
        ]
        prompts = retain_prompts(config, job, self.subjects)
        self.retain = PromptSource(self.model.text.tokenize(prompts))
        self.n_retained = len(prompts)
        pieces = [self.retain[rows] for rows in batches(len(prompts), ENCODE_BATCH)]
        self.retained = self._read(pieces, lambda cond: Features.read(cond, self.encoders))
        self.ceilings: list[dict[str, float]] = []
        if config.erase_target == "hinge":
            # the hinge lets the concept be as similar as unrelated prompts are on average
            features = self._read(pieces, self.features)
            for subject in self.subjects:
                cosines = features.cosines(subject.feature)
                self.ceilings.append({name: own.mean().item() for name, own in cosines.items()})

    def retain_source(self, picks: Int[Tensor, " n"]) -> PromptSource:
        """What the encoders read of some of the retain prompts."""
        # the tables are frozen, so the original's embeddings are the student's too
        return self.model.text.embedded(self.retain[picks].tokens, self.encoders)

    def for_losses(self, source: PromptSource) -> PromptSource:
        """The source for the losses on text, which read the trained encoders and the main one's feature."""
        everywhere = self.config.match_positions == "all"
        unread = [own for own in self.beside if everywhere or own.name != self.model.text.main.name]
        return self.model.text.silenced(source, unread)

    def _read(self, pieces: Sequence[PromptSource], read: Callable[[Conditioning], Features]) -> Features:
        """Features of prompts in pieces, of which nothing else is kept."""
        # a piece is copied before the next one: a part of it would hold all that the denoiser reads of it
        return Features.cat(
            [Features.cat([read(self.model.encode_source(self.for_losses(piece)))]) for piece in pieces]
        )

    def _subject(self, job: Job, concept: Concept, words: Knowledge) -> Subject:
        # one call of the encoder for both: losses read the name, partial samples the prompt
        cond = self.model.encode([concept.name, concept.prompt])
        name = cond[:1]
        # at the end token, whatever position the samples' features are read at
        pooled = self._pooled(name, shift=0)
        everywhere = self.config.match_positions == "all"
        feature = Features.read(name, self.encoders) if everywhere else Features({"pooled": pooled})
        replacement = replacement_of(self.config, job, concept, words)
        return Subject(concept, words, feature, pooled[0], replacement, self._points(name, cond[1:]))

    def _points(self, name: Conditioning, prompt: Conditioning) -> Points:
        config = self.config
        schedule = self.model.schedule
        total = schedule.n_timesteps
        low = int(config.timestep_low * total)
        # at least one timestep, also on a short schedule
        high = max(low + 1, int(config.timestep_high * total))
        steps = config.num_inference_steps
        latents: list[Tensor] = []
        timesteps: list[Tensor] = []
        goals: list[Tensor] = []
        # (pairs, ...) -> (1, ...) each: every pair stops at a timestep of its own
        for noise in torch.split(self.model.noise(config.n_pairs, self.generator), 1):
            t = self.rng.randrange(low, high)
            matched = config.latent_timestep == "matched"
            ddim = config.latent_sampler == "ddim"
            done = self.model.denoise(
                noise,
                prompt,
                self.uncond,
                num_inference_steps=steps,
                guidance_scale=config.guidance_scale,
                # a latent that went through every step has no timestep of a next one
                stop=min(int((total - t if matched else t) / total * steps), steps - 1),
                sampler=schedule.ddim_sampler(steps) if ddim else None,
            )
            timestep = torch.tensor([done.timestep if matched else float(t)], device=self.model.device)
            goal = noise
            if config.attack_target == "frozen_prediction":
                output = self.model.predict(done.latents, timestep, name)
                # compared as noise, also where the model predicts velocity
                goal = schedule.to_noise(output, done.latents, timestep)
            latents.append(done.latents)
            timesteps.append(timestep)
            goals.append(goal)
        # (pairs, ...) again
        return Points(torch.cat(latents), torch.cat(timesteps), torch.cat(goals))

    def retain_picks(self) -> Int[Tensor, " n"]:
        """Numbers of the retain prompts of one training step."""
        config = self.config
        n_prompts = self.n_retained
        if config.retain_draw == "pool":
            return torch.randint(n_prompts, (config.n_retain,), generator=self.generator)
        n_phrasings = len(PLAIN_PHRASINGS)
        words = torch.randperm(n_prompts // n_phrasings, generator=self.generator)[: config.n_retain]
        return words * n_phrasings + torch.randint(n_phrasings, words.shape, generator=self.generator)

    def paths(self, cond: Conditioning) -> Paths:
        """Sampling paths of the original model."""
        # where guidance is distilled, the denoiser guides itself
        guided = Need.SAMPLING not in self.model.lacks
        return sampling_paths(
            self.model,
            cond,
            self.uncond,
            self.generator,
            num_inference_steps=self.config.path_steps,
            guidance_scale=self.config.guidance_scale if guided else 1.0,
        )

    @torch.no_grad()
    def goals(self, subject: Subject, other: Tokens) -> Features:
        """What samples are compared with: the prompts with the replacement, or the concept's own feature."""
        if self.config.erase_target != "replacement":
            return subject.feature.expand(len(other))
        pieces = [other[rows] for rows in batches(len(other), ENCODE_BATCH)]
        sources = [PromptSource(self.model.text.follow(piece)) for piece in pieces]
        return self._read(sources, self.features)

    def features(self, cond: Conditioning) -> Features:
        """What the losses compare: all that the denoiser reads, or the text feature of one position."""
        if self.config.match_positions == "all":
            return Features.read(cond, self.encoders)
        return Features({"pooled": self.pooled(cond)})

    def pooled(self, cond: Conditioning) -> Float[Tensor, "n features"]:
        """Text features at the position that ``feature_position`` names."""
        # the last content token stands just before the end token; an empty prompt has the start token there
        return self._pooled(cond, shift=1 if self.config.feature_position == "last_content" else 0)

    def _pooled(self, cond: Conditioning, shift: int) -> Float[Tensor, "n features"]:
        """The projected state so many positions before the end; behind it, what the denoiser reads pooled."""
        assert cond.source is not None
        end = cond.source.tokens[self.model.text.main.name].end
        projected = self.model.project(cond.at((end - shift).clamp(min=0)))
        return projected if cond.pooled is None else torch.cat([projected, cond.pooled], -1)


def raw_words(targets: Sequence[Target]) -> list[Knowledge]:
    """Words as they are listed, behind the concept's name, as published: the list may hold the name again."""
    return [
        target.words.model_copy(update={"related": (target.concept.name, *target.words.related)})
        for target in targets
    ]


def resolved_words(targets: Sequence[Target]) -> list[Knowledge]:
    """Words of each concept without repeats; no word of any concept is retained or takes another's place.

    Raises:
        InputError: no unrelated word of a concept is left.
    """
    taken = {folded(word) for word in own_words(targets)}
    found = []
    for target in targets:
        words = target.words.resolved(target.concept.name)
        left = tuple(word for word in words.unrelated if folded(word) not in taken)
        replacements = tuple(word for word in words.replacements if folded(word) not in taken)
        if not left:
            raise InputError(
                f"All unrelated words of {target.concept.name!r} are words of other concepts: "
                "nothing would protect the rest of the model. Give more unrelated words."
            )
        found.append(words.model_copy(update={"unrelated": left, "replacements": replacements}))
    return found
