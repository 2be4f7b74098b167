"""One run of an attack: what it works on, what it may spend, what it has drawn and judged so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .._util.errors import InputError
from ..models import Calls, StableDiffusion
from ..models.guidance import Scale
from .attack_set import Attempt
from .scene import Budget, Scene

IMAGE_BATCH = 32


class BudgetSpent(Exception):  # noqa: N818  (a signal, not an error)
    """The next call would pass a limit."""


class Session:
    """One run: draws and judges candidates, keeps the attempts, counts the cost."""

    def __init__(self, scene: Scene, budget: Budget, seed: int, *, every_prompt: bool = False) -> None:
        if not scene.prompts:
            raise InputError("An attack needs at least one prompt.")
        self.scene, self.budget, self.seed, self.every_prompt = scene, budget, seed, every_prompt
        self.target = scene.target.with_text_encoder(scene.target.text_encoder)  # same weights, own count of calls
        self.generator = torch.Generator().manual_seed(seed)
        self.backward = Calls()
        self.started = time.monotonic()
        with torch.no_grad():
            self.empty = self.target.encode(self.target.tokenize([""]).ids)
            self.states = self.target.encode(self.target.tokenize([p.text for p in scene.prompts]).ids)
        self.noise = self.target.initial_noise([p.seed for p in scene.prompts])
        self.attempts = [Attempt(prompt=p.text, seed=p.seed) for p in scene.prompts]
        longest = math.inf if scene.protocol.longest is None else scene.protocol.longest
        self.left_alone = {i for i, p in enumerate(scene.prompts) if len(self.target.content_tokens(p.text)) > longest}
        self.pictures: list[Tensor] = [torch.empty(0)] * len(self.attempts)
        self.tensors: dict[str, Tensor] = {}

    # -- cost ---------------------------------------------------------------------------------------------------------

    def spent(self) -> dict[str, float]:
        """Rows through the networks, forward and backward, and seconds."""
        forward, backward = self.target.calls, self.backward
        return {
            "unet_rows": forward.unet_rows + backward.unet_rows,
            "text_encoder_rows": forward.text_encoder_rows + backward.text_encoder_rows,
            "seconds": time.monotonic() - self.started,
        }

    def charge(self, *, unet_rows: int = 0, text_encoder_rows: int = 0, backward: bool = False) -> None:
        """Announce a call.

        Raises:
            BudgetSpent: it would pass a limit.
        """
        spent, factor = self.spent(), 2 if backward else 1
        if (
            spent["unet_rows"] + factor * unet_rows > self.budget.unet_rows
            or spent["text_encoder_rows"] + factor * text_encoder_rows > self.budget.text_encoder_rows
            or spent["seconds"] > self.budget.seconds
        ):
            raise BudgetSpent
        if backward:
            self.backward.unet_rows += unet_rows
            self.backward.text_encoder_rows += text_encoder_rows

    @torch.no_grad()
    def concept_latents(self, attack: str) -> Float[Tensor, "n channels height width"]:
        """Scaled latents of the original model's pictures for the prompts: what the concept looks like.

        Raises:
            InputError: the scene has no original model.
        """
        original, steps = self.original(attack), self.scene.num_inference_steps
        self.charge(text_encoder_rows=len(self.attempts) + 1)
        states = original.encode(original.tokenize([a.prompt for a in self.attempts]).ids)
        empty = original.encode(original.tokenize([""]).ids)
        scale = self.scene.scale_of(range(len(states)))
        self.charge_sampling(original, states, steps, scale)
        latents, _ = original.roll(self.noise, states, empty, steps, steps, scale)
        return latents

    def original(self, attack: str) -> StableDiffusion:
        """The model before erasing; its calls count as the run's.

        Raises:
            InputError: the scene has none.
        """
        if self.scene.original is None:
            raise InputError(f"{attack} needs the model before erasing.")
        original = self.scene.original.with_text_encoder(self.scene.original.text_encoder)
        original.calls = self.target.calls
        return original

    # -- checks -------------------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[int]:
        """Prompts that are still to be attacked: those on which nothing has succeeded yet, but for what the protocol leaves alone."""
        done = {i for i, a in enumerate(self.attempts) if a.success or (a.pre and not self.every_prompt)}
        return [i for i in range(len(self.attempts)) if i not in done | self.left_alone]

    def charge_sampling(self, model: StableDiffusion, states: Tensor, steps: int, guidance_scale: Scale | None = None) -> None:
        """Announce a roll of text states through so many steps, at the scene's guidance if no other is given."""
        unet_rows, text_rows = model.sampling_rows(states, self.scene.guidance_scale if guidance_scale is None else guidance_scale)
        self.charge(unet_rows=unet_rows * steps, text_encoder_rows=text_rows)

    @torch.no_grad()
    def draw(
        self, rows: Sequence[int], states: Float[Tensor, "n length features"], noise: Float[Tensor, "n channels height width"]
    ) -> Tensor:
        """Pictures of the target model, each with the guidance of the named prompt."""
        steps = self.scene.num_inference_steps
        self.charge_sampling(self.target, states, steps, self.scene.scale_of(rows))
        pictures = []
        for part in torch.arange(len(rows)).split(IMAGE_BATCH):
            scale = self.scene.scale_of([rows[i] for i in part.tolist()])
            drawn = self.target.draw(states[part], noise[part], self.empty, num_inference_steps=steps, guidance_scale=scale)
            pictures.append(drawn)
        return torch.cat(pictures)

    def check_plain(self) -> None:
        """Draw and judge the prompts as they are."""
        pictures = self.draw(range(len(self.attempts)), self.states, self.noise)
        scores = self.scene.detector.scores(pictures)
        hits = self.scene.detector.detect(scores).tolist()
        for attempt, score, hit in zip(self.attempts, scores.tolist(), hits, strict=True):
            attempt.pre, attempt.pre_score, attempt.score = hit, score, score
        self.pictures = list(pictures)

    def check(self, rows: Sequence[int], states: Tensor, *, noise: Tensor | None = None, texts: Sequence[str] = ()) -> list[bool]:
        """Draw and judge one candidate for each of the named prompts; see :meth:`judge`.

        Args:
            rows: indices into the prompt table.
            states: text states of the candidates ``(n, length, width)``.
            noise: initial noise, where it is not the prompts' own.
            texts: the candidates as text, where they are text.
        """
        keep = {} if texts else {"states": states}
        pictures = self.draw(rows, states, self.noise[list(rows)] if noise is None else noise)
        return self.judge(rows, pictures, keep if noise is None else {**keep, "noise": noise}, texts)

    def judge(self, rows: Sequence[int], pictures: Tensor, keep: dict[str, Tensor], texts: Sequence[str] = ()) -> list[bool]:
        """Judge one candidate's picture for each of the named prompts; the best candidate of each prompt is kept.

        Args:
            rows: indices into the prompt table.
            pictures: ``(n, 3, height, width)`` in -1..1.
            keep: what makes the pictures again, one row each.
            texts: the candidates as text, where they are text.

        Returns:
            Success of each candidate.
        """
        scores = self.scene.detector.scores(pictures)
        hits: list[bool] = self.scene.detector.detect(scores).tolist()
        for at, (row, score, hit) in enumerate(zip(rows, scores.tolist(), hits, strict=True)):
            attempt = self.attempts[row]
            attempt.checks += 1
            if attempt.success or (attempt.checks > 1 and score <= attempt.score and not hit):
                continue
            attempt.success, attempt.score, attempt.candidate = hit, score, texts[at] if texts else None
            self.pictures[row] = pictures[at]
            for name, value in keep.items():
                table = self.tensors.setdefault(name, torch.zeros(len(self.attempts), *value.shape[1:], dtype=value.dtype))
                table[row] = value[at]
        return hits

    def search_texts(self, rows: Sequence[int], search: Callable[[int], Sequence[int]]) -> None:
        """Find content tokens for one prompt after the other, then check all at once; what was found before a limit counts too."""
        found: dict[int, Sequence[int]] = {}
        try:
            for row in rows:
                found[row] = search(row)
        except BudgetSpent:
            if found:
                self.check_texts(list(found), list(found.values()))
            raise
        self.check_texts(list(found), list(found.values()))

    def check_texts(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> list[bool]:
        """As :meth:`check`, of content tokens read as text and tokenized again, as a user would have to enter them."""
        tokenizer = self.target.pipeline.tokenizer
        texts = [tokenizer.decode(list(row)) for row in ids]
        again = self.target.tokenize(texts)
        self.charge(text_encoder_rows=len(texts))
        with torch.no_grad():
            states = self.target.encode(again.ids)
        hits = self.check(rows, states, texts=texts)
        room = self.target.text_length - 2
        for row, given, found, text in zip(rows, ids, again.ids.tolist(), texts, strict=True):
            if self.attempts[row].candidate == text:
                self.attempts[row].survived = found[1 : 1 + len(given)] == list(given)[:room]
        return hits
