"""MACE (Lu et al., arXiv 2403.06135): the words around a concept forget it in closed form, the concept's own words by low-rank adapters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from tqdm import tqdm

from ..concept import Concept
from ..erasure import Erasure
from ..knowledge import Knowledge
from ..models import StableDiffusion
from ..models.adapters import LowRank, adapted
from ..models.attention import attention_maps, resized, token_mask
from ..models.sites import group_names, shared_copy
from ._shared.closed_form import Example, Wish, edit_matrices, fuse_matrices
from ._shared.generated_data import DRAW_BATCH, Texts, draw_latents, picks
from ._shared.prompts import names_of, stand_in
from .base import Eraser, check_concepts, facts

#: Share of the schedule at which a picture is noised to see where the concept is: its outlines are there, its noise still matters little.
MASK_LEVEL = 0.3


class MACEConfig(BaseModel):
    """Settings; defaults are those of the release for one object.

    Attributes:
        mapping: phrase that takes the concept's place in the text around it; if empty, the concept's first surrogate.
        words: the prompts say the concept's name only, or its related words too.
        n_prompts: prompts of each concept, and unrelated prompts that are kept.
        ridge: pull of both closed forms towards the matrices before them; the published 0 for nudity cannot be solved.
        refine_prior, fuse_prior: weight of the kept prompts in the first and the second closed form.
        rank: of the adapters.
        n_pictures: of each concept, from the original model.
        num_inference_steps, guidance_scale: of the pictures.
        mask: attention is driven out of where the original model sees the concept (``attention``), or of the whole picture (``none``).
        mask_threshold: part of the range of attention from which a place counts as the concept's.
        importance: prefer timesteps between a fifth and two fifths of the schedule to uniform ones.
        iterations, batch, lr, weight_decay, max_norm: of AdamW with clipped gradients, for each concept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: str = ""
    words: Literal["name", "related"] = "name"
    n_prompts: int = Field(30, ge=1, le=100_000)
    ridge: float = Field(1e3, gt=0)
    refine_prior: float = Field(0.0, ge=0)
    fuse_prior: float = Field(0.0, ge=0)
    rank: int = Field(1, ge=1, le=1024)
    n_pictures: int = Field(8, ge=1, le=100_000)
    num_inference_steps: int = Field(30, ge=1, le=1000)
    guidance_scale: float = Field(7.5, ge=1, le=50)
    mask: Literal["attention", "none"] = "attention"
    mask_threshold: float = Field(0.3, ge=0, le=1)
    importance: bool = True
    iterations: int = Field(50, ge=0, le=1_000_000)
    batch: int = Field(1, ge=1, le=1024)
    lr: float = Field(1e-5, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    max_norm: float = Field(1.0, gt=0)


_NUDITY: dict[str, Any] = {
    "mapping": "a person wearing clothes", "words": "related", "ridge": 1e-2, "refine_prior": 7e-7, "fuse_prior": 7e-7,
    "iterations": 120, "importance": False,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-object": {"mapping": "ground"},
    "paper-sd14-nudity": _NUDITY,
    "paper-sd14-style": {"mapping": "art", "lr": 1e-4, "mask": "none", "refine_prior": 8.0, "fuse_prior": 8.0},
    "as-released-nudity": {**_NUDITY, "refine_prior": 7e-7**2},  # the release applies the weight twice in the first closed form
    "emoji": {
        "words": "related", "n_prompts": 200, "ridge": 10.0, "refine_prior": 3.0, "fuse_prior": 10.0, "n_pictures": 32,
        "num_inference_steps": 15, "guidance_scale": 2.5, "batch": 8, "iterations": 30, "lr": 1e-3,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """A prompt that names the concept in the tokens ``start .. stop``; ``mapped`` has the mapping in ``start .. mapped_stop``."""

    text: str
    start: int
    stop: int
    mapped: str
    mapped_stop: int


class MACE(Eraser[MACEConfig]):
    """Refinement, one adapter a concept, fusion.

    The other tokens of a concept's prompts answer like those of the same prompts with the mapping; then an adapter drives the attention to
    the concept's tokens out of the concept's place; then each concept's prompts answer like refined matrices with its adapter, and kept
    prompts like the original. Places come from the model's own attention, where the release has a segmentation network, and the kept
    prompts are unrelated words, where it has captions.

    Cost: ``num_inference_steps`` denoiser calls for each 32 pictures and one for their masks, one for each iteration of each concept;
    every text is encoded once.
    """

    name = "mace"
    paper = "arXiv 2403.06135"
    pictures = "drawn by itself"
    licence = "NTU licence, non-commercial"
    trains = "denoiser: cross-attention keys and values"
    config_type = MACEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def erase(self, model: StableDiffusion, concepts: list[Concept], knowledge: list[Knowledge], *, seed: int = 0) -> Erasure:
        """See :meth:`Eraser.erase`.

        Raises:
            InputError: as there; a concept has no surrogate and ``mapping`` is not set; a closed form cannot be solved.
        """
        check_concepts(concepts, knowledge)
        config, started, generator = self.config, time.monotonic(), torch.Generator().manual_seed(seed)
        teacher = model.with_text_encoder(model.text_encoder)  # own count of calls
        names = group_names(model.pipeline.unet, "cross_attention_kv")
        original = [model.pipeline.unet.get_parameter(name).detach().float() for name in names]
        pairs = list(zip(concepts, knowledge, strict=True))
        phrases = [phrases_of(teacher, config, concept, words, generator) for concept, words in pairs]
        kept = kept_prompts(pairs, config.n_prompts, generator)
        texts = Texts(teacher, ["", *kept, *(text for own in phrases for phrase in own for text in (phrase.text, phrase.mapped))])
        kept_states = texts(kept).flatten(0, 1)

        others, mapped = other_states(texts, [phrase for own in phrases for phrase in own])
        wishes = [Wish(others, mapped, 1.0), Wish(kept_states, kept_states, config.refine_prior)]
        refined = edit_matrices(original, wishes, config.ridge)

        n = config.n_pictures if config.iterations else 0
        shown = [own[i % len(own)] for own in phrases for i in range(n)]
        latents = draw_latents(
            teacher, texts, [phrase.text for phrase in shown], generator,
            num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale,
        )  # fmt: skip
        masks = self._masks(teacher, texts, shown, latents, generator)
        examples = []
        for i, own in enumerate(phrases):
            rows = slice(i * n, (i + 1) * n)
            changes = self._train(teacher, names, refined, texts, shown[rows], latents[rows], masks[rows], generator)
            with_adapter = [w + change for w, change in zip(refined, changes, strict=True)]
            examples.append(Example(texts(phrase.text for phrase in own).flatten(0, 1), with_adapter, 1.0))
        fused = fuse_matrices(refined, [*examples, Example(kept_states, original, config.fuse_prior)], config.ridge)
        recipe = facts(self, teacher, concepts, knowledge, seed, trained=sum(m.numel() for m in fused), started=started)
        return Erasure(recipe, None, unet=dict(zip(names, fused, strict=True)))

    @torch.no_grad()
    def _masks(
        self, model: StableDiffusion, texts: Texts, shown: Sequence[Phrase], latents: Tensor, generator: torch.Generator
    ) -> Bool[Tensor, "n 1 side side"]:
        """Where each picture has its concept."""
        if self.config.mask == "none" or not shown:
            return torch.ones(len(shown), 1, 1, 1, dtype=torch.bool)
        timestep, masks = int(MASK_LEVEL * len(model.pipeline.scheduler.alphas_cumprod)), []
        for i in range(0, len(shown), DRAW_BATCH):
            clean, rows = latents[i : i + DRAW_BATCH], shown[i : i + DRAW_BATCH]
            timesteps = torch.full((len(rows),), timestep)
            noisy = model.noised(clean, torch.randn(clean.shape, generator=generator), timesteps)
            with attention_maps(model.pipeline.unet) as maps:
                model.predict(noisy, timesteps, texts(phrase.text for phrase in rows))
            masks.append(token_mask(maps, concept_tokens(rows, model.text_length), self.config.mask_threshold))
        return torch.cat(masks)

    def _train(
        self,
        teacher: StableDiffusion,
        names: Sequence[str],
        refined: Sequence[Tensor],
        texts: Texts,
        shown: Sequence[Phrase],
        latents: Tensor,
        masks: Tensor,
        generator: torch.Generator,
    ) -> list[Tensor]:
        """What one concept's adapters add to the refined matrices."""
        config = self.config
        unet = shared_copy(teacher.pipeline.unet, dict(zip(names, refined, strict=True)))
        layers = [name.removesuffix(".weight") for name in names]
        adapters = {layer: LowRank(unet.get_submodule(layer), config.rank, generator) for layer in layers}
        student = teacher.with_unet(adapted(unet, adapters))
        student.calls = teacher.calls
        parameters = [parameter for adapter in adapters.values() for parameter in adapter.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
        chances = timestep_chances(len(teacher.pipeline.scheduler.alphas_cumprod), importance=config.importance)
        batches = picks(len(shown), config.batch, generator)
        for _ in tqdm(range(config.iterations), desc="erase", **teacher.progress_bar_options):
            rows = next(batches)
            phrases = [shown[i] for i in rows.tolist()]
            timesteps = torch.multinomial(chances, len(rows), replacement=True, generator=generator)
            noise = torch.randn(latents[rows].shape, generator=generator)
            with attention_maps(student.pipeline.unet) as maps:
                student.predict(student.noised(latents[rows], noise, timesteps), timesteps, texts(phrase.text for phrase in phrases))
            loss = attention_loss(maps, masks[rows], concept_tokens(phrases, teacher.text_length))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.max_norm)
            optimizer.step()
        return [adapter.change().detach() for adapter in adapters.values()]


def attention_loss(
    maps: Sequence[Float[Tensor, "batch _ _ tokens"]],
    masks: Bool[Tensor, "batch 1 side side"],
    tokens: Bool[Tensor, "batch tokens"],
) -> Tensor:
    """``sum over layers of |A[pixels in the mask, concept's tokens]|_F``, all heads in one norm, mean over the batch."""
    total = torch.zeros(len(tokens))
    for layer in maps:
        place = resized(masks, round(layer.shape[2] ** 0.5)).flatten(1)
        seen = layer * place[:, None, :, None] * tokens[:, None, None, :]
        total = total + torch.linalg.vector_norm(seen, dim=(1, 2, 3))
    return total.mean()


def timestep_chances(n: int, *, importance: bool) -> Float[Tensor, " n"]:
    """Unnormalised chances of the timesteps ``0 .. n - 1``: ``s(0.05 (t - 200)) - s(0.05 (t - 400))`` for a schedule of 1000, or equal."""
    if not importance:
        return torch.ones(n)
    t = torch.arange(n) * 1000 / n
    return torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))


def concept_tokens(phrases: Sequence[Phrase], length: int) -> Bool[Tensor, "n length"]:
    """Which tokens are the concept's."""
    places = torch.arange(length)
    return torch.stack([(places >= phrase.start) & (places < phrase.stop) for phrase in phrases])


def phrases_of(model: StableDiffusion, config: MACEConfig, concept: Concept, words: Knowledge, generator: torch.Generator) -> list[Phrase]:
    """At most ``n_prompts`` prompts of a concept, each beside the one with the mapping; the plain name comes first.

    Raises:
        InputError: there is no mapping.
    """
    mapping = stand_in(concept, words, config.mapping)
    texts = [(pattern, name) for pattern in words.contexts for name in names_of(concept, words, config.words)]
    order = torch.randperm(len(texts), generator=generator).tolist()
    found = []
    for pattern, name in list(dict.fromkeys([("{}", concept.name), *(texts[i] for i in order)]))[: config.n_prompts]:
        start = 1 + len(model.content_tokens(pattern.partition("{}")[0].strip()))
        last = model.text_length - 1  # the end token's place, at the latest
        stop, mapped_stop = (min(start + len(model.content_tokens(phrase)), last) for phrase in (name, mapping))
        found.append(Phrase(pattern.format(name), start, stop, pattern.format(mapping), mapped_stop))
    return found


def other_states(texts: Texts, phrases: Sequence[Phrase]) -> tuple[Float[Tensor, "rows width"], Float[Tensor, "rows width"]]:
    """States of all tokens but the concept's, and the states in their place if the mapping is said instead, cut to equal length."""
    own, mapped = [], []
    for phrase, a, b in zip(phrases, texts(p.text for p in phrases), texts(p.mapped for p in phrases), strict=True):
        n = len(a) - max(phrase.stop, phrase.mapped_stop)
        own += [a[: phrase.start], a[phrase.stop : phrase.stop + n]]
        mapped += [b[: phrase.start], b[phrase.mapped_stop : phrase.mapped_stop + n]]
    return torch.cat(own), torch.cat(mapped)


def kept_prompts(pairs: Sequence[tuple[Concept, Knowledge]], n: int, generator: torch.Generator) -> list[str]:
    """At most ``n`` prompts of unrelated words that are no word of any of the concepts."""
    taken = {word for concept, words in pairs for word in (concept.name, *words.related)}
    prompts = [c.format(word) for _, words in pairs for word in words.unrelated if word not in taken for c in words.unrelated_contexts]
    return [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:n].tolist()]
