"""SAFREE (Yoon et al., arXiv 2410.12761): trigger tokens are projected away from the concept.

In the first steps of sampling only.
"""

from __future__ import annotations

import torch

from .._shared.prompts import joined_phrases, names_of
from ..base import Change, Eraser, Job, Need
from .config import PRESETS, SAFREEConfig
from .guidance import SAFREEGuidance
from .projection import orthonormal


class SAFREE(Eraser[SAFREEConfig]):
    """Projection of prompts away from the span of the concepts' phrases; nothing is trained.

    Differs from the release: the paper's latent re-attention is left out, as the release never runs it.

    Cost: one call of the text encoder, two with ``negative``; afterwards one more for each batch that is
    sampled, of one row for each token of each prompt.
    """

    name = "safree"
    paper = "arXiv 2410.12761"
    licence = "none stated"
    needs = frozenset({Need.SAMPLING})
    changes = "guidance"
    guidance_type = SAFREEGuidance
    config_type = SAFREEConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    @torch.no_grad()
    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: with ``negative``, the concepts' names are more than the text encoder can read.
        """
        model = job.model
        phrases = list(
            dict.fromkeys(p for target in job.targets for p in names_of(target, self.config.words))
        )
        # the end token has read the whole phrase: one vector a phrase
        end = model.text.main.tokenize(phrases).end
        tensors = {"span": orthonormal(model.encode(phrases).at(end))}
        if self.config.negative:
            tensors["negative"] = model.encode([joined_phrases(model, job.targets)]).prompt_embeds[0]
        return Change(guidance=SAFREEGuidance(self.config, tensors))
