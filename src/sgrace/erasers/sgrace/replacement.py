"""What takes a concept's place, where nobody says: chosen among the candidates that its words name."""

from __future__ import annotations

import torch

from ..._util.errors import InputError
from ...concept import Concept, folded
from ...knowledge import Knowledge
from .._shared.generated_data import Texts, generate_latents
from ..base import Job
from .config import SGraceConfig
from .likeness import unlikeness
from .retain import ranked
from .subject import Replacement

#: Candidates that the recipe lists.
LISTED = 20
#: Candidates, nearest first, whose images are looked at.
PICTURED = 6
#: Images of each.
IMAGES = 4
#: Words of the concept that are to explain them: its name, and the first that are listed.
EXPLAINING = 3


def replacement_of(config: SGraceConfig, job: Job, concept: Concept, words: Knowledge) -> Replacement:
    """The one that the settings name or, by their rule, a candidate that is no word of the concept.

    None where neither a loss nor the second stage reads it.

    Raises:
        InputError: there is no candidate, or all are too similar.
    """
    read = config.erase_target == "replacement" or config.denoiser_steps
    if config.replacement is not None or not read:
        return Replacement(config.replacement or "", [])
    own = {folded(word) for word in (concept.name, *words.related)}
    every = dict.fromkeys(words.replacements or words.unrelated)
    candidates = [word for word in every if folded(word) not in own]
    ranking = ranked(job.model, concept.name, candidates)
    fitting = [found.word for found in ranking if found.cosine <= config.replacement_ceiling]
    if not fitting:
        raise InputError(
            f"No replacement for {concept.name!r} is below the similarity ceiling; set one with --set "
            "replacement=WORD."
        )
    if config.replacement_rule == "nearest":
        return Replacement(fitting[0], ranking[:LISTED])
    looks = unlike(config, job, concept, words, fitting[:PICTURED])
    return Replacement(max(looks, key=looks.__getitem__), ranking[:LISTED], looks)


@torch.no_grad()
def unlike(
    config: SGraceConfig, job: Job, concept: Concept, words: Knowledge, candidates: list[str]
) -> dict[str, float]:
    """How badly the concept's words explain the original's images of each candidate.

    The geometric mean over its images of :func:`.likeness.unlikeness`.
    """
    contexts = job.rng.sample(words.contexts, min(IMAGES, len(words.contexts)))
    names = list(dict.fromkeys([concept.name, *words.related]))[:EXPLAINING]
    prompts = [context.format(word) for word in candidates for context in contexts]
    texts = Texts(job.model, [*prompts, ""])
    images = generate_latents(
        job.model,
        texts,
        prompts,
        job.generator,
        num_inference_steps=config.path_steps,
        guidance_scale=config.guidance_scale,
    )
    named = [[context.format(name) for name in names] for _ in candidates for context in contexts]
    # (candidates * contexts,) -> (candidates,)
    times = unlikeness(job, images, texts(prompts), named)
    found = times.log().unflatten(0, (len(candidates), -1)).mean(1).exp()
    return {word: round(value, 4) for word, value in zip(candidates, found.tolist(), strict=True)}
