"""DES, Distorting Embedding Space (Ahn and Jung, arXiv 2501.18877): concept prompts move away."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from .._util.settings import Settings
from ..models import Tokens
from ._shared.generated_data import Texts
from ._shared.prompts import concept_prompts, retain_prompts
from ._shared.settings import AdamRate, Count, Encoders, Iterations
from ._shared.student import TextStudent
from ._shared.trainer import train
from .base import Change, Eraser, Job, Need

#: Concept prompts that are compared with all retain prompts at once.
COMPARE_BATCH = 1024


class DESConfig(Settings):
    """Settings; defaults are those of the paper for SD 1.5."""

    n_prompts: Count = Field(
        6911,
        description="Prompts of the concepts, and at most as many retain prompts (there may be fewer "
        "unrelated words).",
    )
    shift: float = Field(
        200.0,
        ge=0,
        description="Length of the concept's direction that the targets are moved by, away from it; the "
        "prompt embeddings of CLIP-L have a length of about 250.",
    )
    retain_weight: float = Field(
        0.3, ge=0, le=1, description="Weight of the retain loss; the losses on the concept have the rest."
    )
    iterations: Iterations = 108
    batch: int = Field(
        128, ge=1, le=4096, description="Concept prompts in a training step, and as many retain prompts."
    )
    lr: AdamRate = 1e-5
    encoders: Encoders = "clip"


PRESETS: dict[str, dict[str, object]] = {
    "paper-sd15-nudity": {},
    "emoji": {
        "n_prompts": 256,
        "shift": 10.0,
        "retain_weight": 0.8,
        "iterations": 75,
        "batch": 16,
        "lr": 2e-4,
    },
}


class DES(Eraser[DESConfig]):
    """Train cosines of whole prompt embeddings ``h``, all text positions of a prompt as one vector.

    With ``d(a, b) = 1 - cos(a, b)``, concept prompts ``c``, retain prompts ``r`` and the unit direction ``v``
    of ``h*(name)`` of the original: ``(1 - w) [d(h(c), h*(r_c) - s v) + d(h(name), h*(''))]
    + w [d(h(r), h*(r)) + d(h(r) + s v, h*(r))]``. ``r_c`` is the retain prompt that is least like ``c``,
    ``s`` the shift and ``w`` the retain weight. Several concepts have equal parts of the prompts, each with
    its own direction and name.

    Several text encoders are trained together; no loss reads the pooled feature.

    Cost: each prompt once; then a call of the text encoders for each iteration. No denoiser.

    Differs from the release:
        - The 6,911 pairs of prompts are made of the concept's words; the paper takes them from a collection
          of harmful ones.
    """

    name = "des"
    paper = "arXiv 2501.18877"
    licence = "CC BY-NC 4.0"
    needs = frozenset({Need.GRADIENTS, Need.TEXT_ENCODER})
    changes = "text"
    config_type = DESConfig
    presets = PRESETS
    default_preset = "paper-sd15-nudity"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: no unrelated word is left.
        """
        config = self.config
        student = TextStudent.of(job.model, config.encoders)
        retain = retain_prompts(job.targets, config.n_prompts, job.rng)
        # an equal share for every concept
        each = max(1, config.n_prompts // len(job.targets))
        prompts: list[str] = []
        concepts: list[int] = []  # the concept of each prompt
        for place, target in enumerate(job.targets):
            # without repeats: a prompt that comes twice would weigh twice
            own = dict.fromkeys(concept_prompts(target, each, job.rng))
            prompts += own
            concepts += [place] * len(own)
        if config.iterations:
            self._train(job, student, prompts, torch.tensor(concepts), retain)
        return Change(student.changed(), trained=student.size)

    def _train(
        self,
        job: Job,
        student: TextStudent,
        prompts: list[str],
        concepts: Int[Tensor, " prompts"],
        retain: list[str],
    ) -> None:
        config = self.config
        generator = job.generator
        main = job.model.text.main
        names = [concept.name for concept in job.concepts]
        texts = Texts(job.model, [*prompts, *retain, *names, ""])

        def vectors(chosen: list[str]) -> Tensor:
            # all text positions of a prompt are one vector: (n, length, width) -> (n, length * width)
            return texts(chosen).prompt_embeds.flatten(1)

        retain_vectors = vectors(retain)
        uncond = vectors([""])
        # (concepts, length * width), of length 1: `shift` alone sets the distance
        directions = F.normalize(vectors(names), dim=-1)
        # decided once, by the original: a target must not move with what is trained
        opposite = least_similar(vectors(prompts), retain_vectors)
        prompt_ids = main.tokenize(prompts)
        retain_ids = main.tokenize(retain)
        name_ids = main.tokenize(names)
        optimizer = torch.optim.Adam(student.parameters, lr=config.lr)
        student.requires_grad_(True)

        def loss_at(_step: int) -> Tensor:
            picks = torch.randint(len(prompts), (config.batch,), generator=generator)
            others = torch.randint(len(retain), (config.batch,), generator=generator)
            beside = torch.randint(len(names), (config.batch,), generator=generator)
            # one call of the encoder for all three kinds
            tokens = Tokens.cat([prompt_ids[picks], retain_ids[others], name_ids])
            # (2 batch + concepts, length, width) -> (..., length * width)
            encoded = student.model.encode_tokens(tokens).prompt_embeds.flatten(1)
            concept, unrelated, named = torch.split(encoded, [config.batch, config.batch, len(names)])
            targets = shifted(retain_vectors[opposite[picks]], directions[concepts[picks]], config.shift)
            erase = cosine_distance(concept, targets) + cosine_distance(named, uncond)
            stay = retain_loss(unrelated, retain_vectors[others], config.shift * directions[beside])
            return config.retain_weight * stay + (1 - config.retain_weight) * erase

        train(job, student.parameters, optimizer, config.iterations, loss_at)
        student.requires_grad_(False)


@torch.no_grad()
def least_similar(concept: Float[Tensor, "n d"], retain: Float[Tensor, "m d"]) -> Int[Tensor, " n"]:
    """For each vector of the concept, the index of the retain vector with the lowest cosine to it."""
    # (m, d) -> (d, m)
    against = F.normalize(retain, dim=-1).T
    # (n, d) @ (d, m) in parts: a normalised copy of all n at once would double the memory
    parts = [(F.normalize(part, dim=-1) @ against).argmin(-1) for part in torch.split(concept, COMPARE_BATCH)]
    return torch.cat(parts)


def shifted(
    vectors: Float[Tensor, "n d"], directions: Float[Tensor, "n d"], shift: float
) -> Float[Tensor, "n d"]:
    """Vectors moved against unit directions."""
    return vectors - shift * directions


def cosine_distance(vectors: Float[Tensor, "n d"], goals: Float[Tensor, "#n d"]) -> Tensor:
    """Mean of ``1 - cos``."""
    return (1 - F.cosine_similarity(vectors, goals, dim=-1)).mean()


def retain_loss(
    now: Float[Tensor, "n d"], before: Float[Tensor, "n d"], shift: Float[Tensor, "n d"]
) -> Tensor:
    """``1 - cos`` of retain vectors to what they were, as they are and moved along the concept's direction.

    The second term weighs little where a vector lies along the direction anyway: such prompts may move with
        the concept.
    """
    return cosine_distance(now, before) + cosine_distance(now + shift, before)
