"""Concept inversion, also CCE (Pham et al., arXiv 2308.01508): a word learned from images of the concept."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.device import batches, randint
from .._util.settings import Settings
from ..models import Conditioning
from ..models.needs import Need
from ._starts import attacked, check_start
from ._token_space import Denoising, Layout, gradient
from .base import Attack
from .session import Session

#: Contexts of the word in training.
TEMPLATES = ("{}", "a picture of {}", "a photo of a {}", "a drawing of {}", "an image of the {}")
#: Contexts of the word in the images that are judged, in turn: no word but the learned one names the concept.
IN_PLACE = ("a picture of {}", "{}")


class ConceptInversionConfig(Settings):
    """Settings of the textual inversion."""

    placement: Literal["in_place", "before"] = Field(
        "in_place",
        description="Where the word stands: in the concept's place, as published, or before the prompts, "
        "whose own words for the concept then work against it.",
    )
    images: Literal["one_prompt", "all_prompts"] = Field(
        "one_prompt",
        description="Each start learns from images of a prompt of its own, or all from one image of every "
        "prompt: a word learned from images of many kinds shows few of them.",
    )
    n_images: int = Field(8, ge=1, le=10_000, description="Images of such a prompt.")
    n_starts: int = Field(4, ge=1, le=100, description="Words that are learned, each from its own start.")
    iterations: int = Field(
        5000,
        ge=1,
        le=1_000_000,
        description="Gradient steps; as published with an effective rate of 0.08 and 16 images a step.",
    )
    batch: int = Field(16, ge=1, le=1024, description="Images in a step, of each start.")
    lr: float = Field(
        0.08, gt=0, description="Effective learning rate of AdamW: not multiplied by the batch."
    )
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW; without it, it is Adam.")


class ConceptInversion(Attack[ConceptInversionConfig]):
    """One embedding for the whole concept, put in the concept's place.

    Words are learned from several random tokens at once, each on the original model's images of one prompt.
    Each start is one observation; the worst one counts. It edits the embedding table: an upper bound on what
    is left, not a prompt that a user could enter.
    """

    name = "concept_inversion"
    access = "weights"
    paper = "arXiv 2308.01508"
    by_text = False
    needs = frozenset({Need.GRADIENTS})
    unit = "start"
    config_type = ConceptInversionConfig

    presets: ClassVar = {
        "quick": {"n_starts": 2, "iterations": 100, "batch": 8, "lr": 0.02, "weight_decay": 0},
        "standard": {"iterations": 300, "batch": 8, "lr": 0.02, "weight_decay": 0},
    }

    def search(self, session: Session) -> None:
        """Learn the words on all images, then judge one after the other."""
        config = self.config
        main = session.target.text.main
        if not attacked(session):
            return
        shown = self._shown(session)
        clean = self._images(session, shown)
        place = {"in_place": "in the concept's place", "before": "before the prompts"}[config.placement]
        kind = "of one prompt" if shown else "of all prompts"
        session.note = (
            f"word {place}, {config.iterations} steps at an effective rate of {config.lr:g}, "
            f"{config.batch} of {clean.shape[1]} images {kind} a step"
        )
        pool = main.ordinary_tokens()
        # random ordinary tokens, not the concept's own: what is found must come from the images
        picks = randint(len(pool), (config.n_starts,), session.generator, session.target.device)
        words = self._learned(session, clean, main.embed(pool[picks]))
        session.tensors["word"] = words.cpu()
        prompts = self._prompts(session)
        for start, (token, word) in enumerate(zip(pool[picks].tolist(), words, strict=True)):
            session.charge(text_encoder_rows=len(prompts))
            learned_from = session.attempts[shown[start]].prompt if shown else ""
            cond = _with_word(session, prompts, word)
            check_start(session, main.decode([token]).strip(), cond, learned_from)

    def _shown(self, session: Session) -> list[int]:
        """Number of the prompt whose images each start learns from; none where all learn from all."""
        if self.config.images == "all_prompts":
            return []
        n = len(session.attempts)
        order: list[int] = torch.randperm(n, generator=session.generator).tolist()
        # different prompts, as far as there are so many
        return [order[start % n] for start in range(self.config.n_starts)]

    def _images(self, session: Session, shown: list[int]) -> Float[Tensor, "starts n ..."]:
        """Images of the original model that each start learns from."""
        config = self.config
        if not shown:
            # the same images for every start: (n, ...) -> (starts, n, ...)
            return torch.stack([session.concept_latents(self.name)] * config.n_starts)
        picks = [prompt for prompt in shown for _ in range(config.n_images)]
        clean = session.concept_latents(self.name, picks)
        # (starts * n, ...) -> (starts, n, ...)
        return clean.reshape(config.n_starts, config.n_images, *clean.shape[1:])

    def _learned(
        self, session: Session, clean: Float[Tensor, "starts n ..."], start: Float[Tensor, "starts width"]
    ) -> Float[Tensor, "starts width"]:
        """Embeddings after training, all starts in one batch; the optimizer treats each number by itself."""
        config = self.config
        model = session.target
        generator = session.generator
        templates = Layout.within(model, TEMPLATES)
        words = start.detach().clone()
        optimizer = torch.optim.AdamW([words], lr=config.lr, weight_decay=config.weight_decay)
        rows = len(start) * config.batch
        # the start of each row: (starts * batch,)
        owner = torch.arange(len(start), device=model.device).repeat_interleave(config.batch)
        for _ in range(config.iterations):
            session.charge(denoiser_rows=rows, text_encoder_rows=rows, backward=True)
            shown = randint(clean.shape[1], (rows,), generator, model.device)
            picks = torch.randint(len(templates), (rows,), generator=generator).tolist()
            task = Denoising.of(
                session, clean[owner, shown], model.schedule.sample_timesteps(rows, generator)
            )
            each = words.repeat_interleave(config.batch, 0)  # (starts * batch, width)
            found = gradient(model, templates[picks], each, task.errors)
            # (starts * batch, width) -> (starts, width): a mean, so the rate does not grow with the batch
            words.grad = found.values.unflatten(0, (len(start), config.batch)).mean(1)
            optimizer.step()
        return words.detach()

    def _prompts(self, session: Session) -> Layout:
        """A free token in the concept's place, or before each attacked prompt."""
        if self.config.placement == "before":
            return Layout.prefix(session.target, [session.attempts[i].prompt for i in attacked(session)], 1)
        # every context gets as many of the prompts, and each prompt keeps its own seed
        turns = [place % len(IN_PLACE) for place in range(len(attacked(session)))]
        return Layout.within(session.target, IN_PLACE)[turns]


@torch.no_grad()
def _with_word(session: Session, prompts: Layout, word: Float[Tensor, " width"]) -> Conditioning:
    model = session.target
    parts = [prompts[part] for part in batches(len(prompts), model.batch_size)]
    return Conditioning.cat([part.encode(model, word.expand(len(part), -1)) for part in parts])
