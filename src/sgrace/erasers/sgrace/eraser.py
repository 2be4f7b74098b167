"""S-GRACE: semantics-guided robust adversarial concept erasure (arXiv 2510.27285)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...concept import Kind
from ..base import Change, Eraser, Job, Need
from ..esd import SITES
from .config import SGraceConfig
from .constants import Constants
from .denoiser_stage import train_denoiser
from .learned_words import LearnedWords
from .presets import DEFAULT_PRESET, PRESETS, VALUES_BY_KIND
from .seconds import Seconds
from .text_stage import TextStage


class SGrace(Eraser[SGraceConfig]):
    """Rounds of an attack on prompts and of training the text encoders on the attacked prompts.

    Attack: adversarial prompts of the concept's words are optimised so that the denoiser and the pooled text
    feature ``f`` answer as the original's (``*``) do for the concept: ``min mean |eps(x_t, h) - eps*(x_t,
    h*(name))|^2 + w_f (1 - cos(f(h), f*(name)))``.
    Training: ``w_e |h(prompt) - h*(prompt with the replacement)|^2 + w_r |h(r) - h*(r)|^2`` over the prompt
    embeddings ``h`` of the attacked prompts and of retain prompts ``r``. The presets ``published`` and
    ``corrected`` push the feature away instead, and add a similarity and a parameter term. Only transformer
    layers of text encoders change; with ``denoiser_steps`` a second stage changes the denoiser, and ``full``
    has this stage alone.

    Several encoders are trained together. A sample is one prompt that all of them read, and the attack moves
    the input embeddings of each trained one at once, each in its own table; the others read the tokens.
    The losses are sums: of the distances of each trained encoder's own part of the prompt embeddings, and of
    the pooled feature that the denoiser reads, where there is one. It stands behind ``f`` too.

    Cost: where images decide the replacement, four of each of six candidates; partial samples, one for each
    concept and pair; then, for each round, a call of all networks for each attack step and a call of the text
    encoders for each training step. Attacked samples go through the denoiser a few at a time, so the peak
    memory does not grow with their number. The words of a round are learned in one batch, with
    ``inversion_steps`` such calls, soft prompts with ``attack_steps``. The second stage draws its images and
    sampling paths first; each of its steps takes two calls of the denoiser.

    Differs from the release:
        - ``corrected`` and ``replacement`` repair it; every repair is one switch of the settings, and
          ``published`` has none.
    """

    name = "sgrace"
    paper = "arXiv 2510.27285"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER, Need.GENERATED_DATA})
    changes = "text"
    config_type = SGraceConfig
    presets = PRESETS
    default_preset = DEFAULT_PRESET

    @property
    def sites(self) -> tuple[str, ...]:
        """The text encoder, a site of the denoiser, or both: what the stages change that are run."""
        if not self.config.denoiser_steps:
            return ("text",)
        denoiser = SITES[self.config.denoiser_site]
        return ("text", denoiser) if self.config.rounds else (denoiser,)

    @classmethod
    def values_for(cls, preset: str, kind: Kind) -> Mapping[str, Any]:
        """What the published configurations set for a kind of concept, and ``text`` for objects."""
        return VALUES_BY_KIND.get(preset, {}).get(kind, {})

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no replacement may be chosen, or no unrelated word is left.
        """
        config = self.config
        seconds = Seconds()
        with seconds.of("constants"):
            constants = Constants(config, job)
            places = range(len(job.targets) if config.learned_words else 0)
            words = [LearnedWords.of(config, job, constants, place) for place in places]
        first = self._text_stage(job, constants, words, seconds)
        bar = job.progress((first.n_steps if first else 0) + config.denoiser_steps)
        tensors: dict[str, dict[str, Tensor]] = {}
        trained = 0
        if first:
            first.train(bar)
            tensors |= first.student.changed()
            trained += first.student.size
        if config.denoiser_steps:
            text = first.student.model if first else job.model
            with seconds.of("denoiser"):
                second = train_denoiser(config, job, constants, text, bar)
            tensors |= second.changed()
            trained += second.size
        details = {
            "replacements": [
                {
                    "name": subject.replacement.word,
                    "ranking": [list(found) for found in subject.replacement.ranking],
                    "unlike": dict(subject.replacement.unlike),
                }
                for subject in constants.subjects
            ],
            "angle_to_goal_by_round": first.angles if first else [],
            "loss_by_round": first.losses if first else [],
            "seconds_by_phase": seconds.rounded(),
        }
        return Change(tensors, trained=trained, details=details)

    def _text_stage(
        self, job: Job, constants: Constants, words: Sequence[LearnedWords], seconds: Seconds
    ) -> TextStage | None:
        """The first stage; none where the denoiser alone is trained."""
        if not self.config.rounds and self.config.denoiser_steps:
            return None
        return TextStage(self.config, job, constants, words, seconds)
