"""Words learned against the model in training, as an attacker learns them (arXiv 2308.01508)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...models import DiffusionModel
from .._shared.generated_data import encoded
from .._shared.textual_inversion import (
    LearnedTokens,
    WordPrompt,
    blank,
    learn_words,
    taken_apart,
)
from ..base import Job
from .config import SGraceConfig
from .constants import Constants
from .features import Features
from .samples import Samples
from .subject import Subject

#: Images from which one word is learned. All show the same word of the concept: a word that is learned from
#: images of many kinds brings back none of them.
IMAGES_OF_A_WORD = 4
#: Most contexts in which the words of a concept are erased; more add little and cost an encoding each.
CONTEXTS = 64


@dataclass
class LearnedWords:
    """One concept's images, the words learned from them so far, and the prompts that hold them.

    A word stands in the concept's place, or before a prompt with a word of the concept.

    Attributes:
        config: settings.
        job: the original model and the sources of random choices.
        subject: the concept.
        contexts: where its words stand.
        starts: tokens at which a part of the words start.
        named: a prompt of each context, with a word of the concept.
        images: clean latents that the original model draws of these prompts.
        frames: prompts with one token for the word: in each context, then before a prompt of each context.
        goals: what the losses compare, of the frame's context with the replacement.
        words: by text encoder; never discarded: a word that is erased must stay so while new ones are
            learned.
    """

    config: SGraceConfig
    job: Job
    subject: Subject
    contexts: list[str]
    starts: Int[Tensor, " tokens"]
    named: list[WordPrompt]
    images: Float[Tensor, "prompts ..."]
    frames: LearnedTokens
    goals: Features
    words: dict[str, Float[Tensor, "words 1 width"]] = field(init=False)

    def __post_init__(self) -> None:
        model = self.job.model
        self.words = {
            name: torch.empty(0, 1, model.text[name].width, device=model.device)
            for name in self.frames.source.embeddings
        }

    def __len__(self) -> int:
        return len(next(iter(self.words.values())))

    @classmethod
    @torch.no_grad()
    def of(cls, config: SGraceConfig, job: Job, constants: Constants, place: int) -> Self:
        """The images and frames of one concept; no word is learned yet.

        Args:
            config: settings.
            job: the original model and the sources of random choices.
            constants: of the run.
            place: number of the concept.
        """
        model = job.model
        subject = constants.subjects[place]
        found = subject.words.contexts
        contexts = job.rng.sample(found, min(len(found), CONTEXTS))
        # a word of the concept has several images: what looks alike is learned together
        words = [job.rng.choice(subject.related) for _ in contexts[::IMAGES_OF_A_WORD]]
        named = [
            taken_apart(model, context, words[number // IMAGES_OF_A_WORD], 0)
            for number, context in enumerate(contexts)
        ]
        images = constants.paths(encoded(model, [prompt.text for prompt in named])).images
        frames = [blank(taken_apart(model, context, "", 0)) for context in contexts]
        frames += [_before(model, context, job.rng.choice(subject.related)) for context in contexts]
        others = [context.format(subject.replacement.word) for context in contexts]
        goals = constants.goals(subject, model.text.main.tokenize(others))
        names = [own.name for own in constants.encoders]
        # both kinds of frames of a context have its goal: (2 * contexts, ...)
        return cls(
            config,
            job,
            subject,
            contexts,
            _starts(model, subject),
            named,
            images,
            LearnedTokens(model, frames, names),
            Features.cat([goals, goals]),
        )

    def learn(self, model: DiffusionModel, n: int) -> None:
        """Learn ``n`` more words against the model as it is now, all in one batch."""
        config = self.config
        main = model.text.main
        generator = self.job.generator
        # every second word starts at any token, the others at words of the concept or the replacement
        start = torch.tensor(main.random_tokens(n, generator), device=model.device)
        near = self.starts[torch.randint(len(self.starts), (n,), generator=generator)]
        start[::2] = near[::2]
        # each learned word has the images of one of the concept's words: (n * IMAGES_OF_A_WORD) prompts
        groups = torch.randint(-(-len(self.named) // IMAGES_OF_A_WORD), (n,), generator=generator).tolist()
        picks = [
            (word, place)
            for word, group in enumerate(groups)
            for place in range(len(self.named))[group * IMAGES_OF_A_WORD :][:IMAGES_OF_A_WORD]
        ]
        prompts = [replace(blank(self.named[place]), concept=word) for word, place in picks]
        learned = learn_words(
            model,
            prompts,
            self.images[[place for _, place in picks]],
            self._embedded(model, start),
            steps=config.inversion_steps,
            batch=n * config.inversion_batch,
            lr=config.inversion_lr,
            weight_decay=0.0,
            generator=generator,
        )
        self.words = {name: torch.cat([own, learned[name]]) for name, own in self.words.items()}

    def _embedded(self, model: DiffusionModel, start: Int[Tensor, " words"]) -> dict[str, Tensor]:
        """Words of one token of the main encoder each, as the first token that every encoder has for them."""
        rows = model.text.follow(model.text.main.assemble([[token] for token in start.tolist()]))
        # one token each: (words, width) -> (words, 1, width)
        return {
            name: model.text[name].embed(rows[name].ids[:, model.text[name].start])[:, None]
            for name in self.words
        }

    def _any(self, n: int) -> dict[str, Tensor]:
        """Words drawn with repeats, each the same one in every encoder."""
        picks = torch.randint(len(self), (n,), generator=self.job.generator)
        return {name: words[picks] for name, words in self.words.items()}

    def samples(self, n: int) -> Samples:
        """Prompts with words, any word in any frame."""
        rows = torch.randint(len(self.goals), (n,), generator=self.job.generator)
        return Samples(self.frames.with_words(rows, self._any(n)), self.goals[rows])


def _before(model: DiffusionModel, context: str, word: str) -> WordPrompt:
    """The learned word before a prompt with a word of the concept."""
    text = context.format(word)
    main = model.text.main
    return WordPrompt(text, 0, [], [0], main.content_tokens(text), main.start)


def _starts(model: DiffusionModel, subject: Subject) -> Int[Tensor, " tokens"]:
    """Tokens of the concept's words and of its replacement."""
    words = [*subject.related, subject.replacement.word]
    tokens = [token for word in words for token in model.text.main.content_tokens(word)]
    return torch.tensor(list(dict.fromkeys(tokens)), device=model.device)
