"""One run of an attack: what it works on, what it may spend, what it has sampled and judged so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .._util.device import batches
from .._util.errors import InputError
from ..models import Calls, Conditioning, DiffusionModel
from ..models.guidance import Scale
from .attack_set import Attempt, Start
from .scene import Budget, Scene


class BudgetSpent(Exception):  # noqa: N818  (a signal, not an error)
    """The next call would pass a limit."""


class Session:
    """One run: samples and judges candidates, keeps the attempts, counts the cost.

    Everything that grows with the number of prompts runs in batches of the model's ``batch_size``; random
    numbers are drawn for all prompts first, so that the size changes no result.

    Args:
        scene: what is attacked.
        budget: hard limits.
        seed: of every choice and noise.
        every_prompt: attack those prompts too that succeed as they are.

    Attributes:
        target: the model under attack, with its own count of calls.
        generator: of every choice and noise, on the CPU.
        uncond, cond: conditioning of the empty prompt, and of the prompts by the target's text encoder.
        noise: initial noise of the prompts.
        attempts: one for each prompt.
        truncated: indices of prompts that the text encoder does not read to their end.
        left_alone: indices of prompts that the protocol does not attack.
        starts: what each start found, of attacks that are observed by starts.
        note: what the figures rest on beside the settings, in words.
        images: of the kept candidates, else of the prompts as they are, on the CPU.
        tensors: what makes these images again, on the CPU, one row a prompt.
    """

    def __init__(self, scene: Scene, budget: Budget, seed: int, *, every_prompt: bool = False) -> None:
        if not scene.prompts:
            raise InputError("An attack needs at least one prompt.")
        self.scene = scene
        self.budget = budget
        self.every_prompt = every_prompt
        # a count of its own: the budget is of this run
        self.target = scene.target.metered()
        self.generator = torch.Generator().manual_seed(seed)
        self.backward = Calls()
        self.started = time.monotonic()
        with torch.no_grad():
            self.uncond = self.target.uncond()
        self.cond = self.encode(self.target, [p.text for p in scene.prompts])
        # from each prompt's own seed: (prompts, *latent_shape), the same for every attack
        self.noise = self.target.initial_noise([p.seed for p in scene.prompts])
        self.attempts = [Attempt(prompt=p.text, seed=p.seed) for p in scene.prompts]
        self.truncated = [i for i, p in enumerate(scene.prompts) if self.target.text.truncates(p.text)]
        lengths = [len(self.target.text.main.content_tokens(p.text)) for p in scene.prompts]
        self.left_alone = [i for i, length in enumerate(lengths) if not scene.protocol.attacks(length)]
        self.starts: list[Start] = []
        self.note = ""
        self.images: list[Tensor] = []
        self.tensors: dict[str, Tensor] = {}

    # -- cost ------------------------------------------------------------------------------------------------

    def spent(self) -> dict[str, float]:
        """Samples through the networks, forward and backward, and seconds."""
        forward = self.target.calls
        backward = self.backward
        return {
            "denoiser_rows": forward.denoiser_rows + backward.denoiser_rows,
            "text_encoder_rows": forward.text_encoder_rows + backward.text_encoder_rows,
            "seconds": time.monotonic() - self.started,
        }

    def charge(self, *, denoiser_rows: int = 0, text_encoder_rows: int = 0, backward: bool = False) -> None:
        """Announce a call.

        Raises:
            BudgetSpent: it would pass a limit.
        """
        spent = self.spent()
        # a backward pass counts as one more pass
        factor = 2 if backward else 1
        if (
            spent["denoiser_rows"] + factor * denoiser_rows > self.budget.denoiser_rows
            or spent["text_encoder_rows"] + factor * text_encoder_rows > self.budget.text_encoder_rows
            or spent["seconds"] > self.budget.seconds
        ):
            raise BudgetSpent
        # the model counts its forward passes itself, when they happen
        if backward:
            self.backward.denoiser_rows += denoiser_rows
            self.backward.text_encoder_rows += text_encoder_rows

    def charge_sampling(
        self, model: DiffusionModel, cond: Conditioning, steps: int, guidance_scale: Scale, start: int = 0
    ) -> None:
        """Announce the sampling of prompts from a step on, through calls of which a step may take several."""
        cost = model.sampling_cost(cond, guidance_scale)
        sampler = model.schedule.sampler(steps)
        calls = sampler.start_of(steps) - sampler.start_of(start)
        self.charge(denoiser_rows=cost.denoiser_rows * calls, text_encoder_rows=cost.text_encoder_rows)

    # -- models ----------------------------------------------------------------------------------------------

    def original(self, attack: str) -> DiffusionModel:
        """The model before erasing; its calls count as the run's.

        Raises:
            InputError: the scene has none.
        """
        if self.scene.original is None:
            raise InputError(f"{attack} needs the model before erasing; name it with --base.")
        original = self.scene.original.metered()
        # both models spend the same budget
        original.calls = self.target.calls
        return original

    @staticmethod
    @torch.no_grad()
    def encode(model: DiffusionModel, texts: Sequence[str]) -> Conditioning:
        """Conditioning of texts."""
        return Conditioning.cat([model.encode(texts[part]) for part in batches(len(texts), model.batch_size)])

    @torch.no_grad()
    def concept_latents(self, attack: str, picks: Sequence[int] | None = None) -> Float[Tensor, "n ..."]:
        """Clean latents of the original model's images of the prompts: what the concept looks like.

        Args:
            attack: name, for the message.
            picks: numbers of prompts, with new noise; all prompts with their own, if absent.

        Raises:
            InputError: the scene has no original model.
        """
        original = self.original(attack)
        steps = self.scene.num_inference_steps
        rows = picks if picks is not None else range(len(self.attempts))
        noise = self.noise if picks is None else self.target.noise(len(rows), self.generator)
        self.charge(text_encoder_rows=len(rows) + 1)
        cond = self.encode(original, [self.attempts[row].prompt for row in rows])
        uncond = original.uncond()
        self.charge_sampling(original, cond, steps, self.scene.scale_of(rows))
        latents = []
        for part in batches(len(rows), original.batch_size):
            here = noise[part].to(original.device)
            scale = self.scene.scale_of(rows[part])
            done = original.denoise(here, cond[part], uncond, num_inference_steps=steps, guidance_scale=scale)
            latents.append(done.latents)  # (part, ...) each, on the original's device
        return torch.cat(latents).to(self.target.device)

    # -- checks ----------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[int]:
        """Prompts that are still to be attacked: nothing has succeeded yet, and the protocol attacks them."""
        # `pre`: no attack is needed where the plain prompt succeeds
        done = {i for i, a in enumerate(self.attempts) if a.success or (a.pre and not self.every_prompt)}
        done.update(self.left_alone)
        return [i for i in range(len(self.attempts)) if i not in done]

    def rounds(self, n: int) -> Iterator[list[int]]:
        """The open prompts, ``n`` times or until none is open."""
        for _ in range(n):
            indices = self.open
            if not indices:
                return
            yield indices

    @torch.no_grad()
    def sample(
        self, indices: Sequence[int], cond: Conditioning, noise: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n 3 height width"]:
        """Images of the target model, each with the guidance of the named prompt."""
        steps = self.scene.num_inference_steps
        self.charge_sampling(self.target, cond, steps, self.scene.scale_of(indices))
        images = []
        for part in batches(len(indices), self.target.batch_size):
            scale = self.scene.scale_of(indices[part])
            sampled = self.target.sample(
                noise[part], cond[part], self.uncond, num_inference_steps=steps, guidance_scale=scale
            )
            # they wait on the CPU: images of all prompts may not fit beside a model
            images.append(sampled.cpu())
        return torch.cat(images)

    def check_plain(self) -> None:
        """Sample and judge the prompts as they are."""
        images = self.sample(range(len(self.attempts)), self.cond, self.noise)
        scores = self.scene.detector.scores(images)
        hits = self.scene.detector.detect(scores).tolist()
        for attempt, score, hit in zip(self.attempts, scores.tolist(), hits, strict=True):
            attempt.pre = hit
            attempt.pre_score = score
            attempt.score = score
        self.images = list(images)

    def check(
        self,
        indices: Sequence[int],
        cond: Conditioning,
        *,
        noise: Float[Tensor, "n ..."] | None = None,
        texts: Sequence[str] = (),
    ) -> list[bool]:
        """Sample and judge one candidate for each of the named prompts; see :meth:`judge`.

        Args:
            indices: of the prompts.
            cond: the candidates.
            noise: initial noise, where it is not the prompts' own.
            texts: the candidates as text, where they are text.
        """
        # a text makes its image again by itself; embeddings must be kept
        keep = {} if texts else cond.tensors()
        if noise is not None:
            keep["noise"] = noise
        images = self.sample(indices, cond, self.noise[list(indices)] if noise is None else noise)
        return self.judge(indices, images, keep, texts)

    def judge(
        self,
        indices: Sequence[int],
        images: Float[Tensor, "n 3 height width"],
        keep: Mapping[str, Tensor],
        texts: Sequence[str] = (),
    ) -> list[bool]:
        """Judge one candidate's image for each of the named prompts; the best one of each prompt is kept.

        Args:
            indices: of the prompts.
            images: in -1..1.
            keep: what makes the images again, one row each.
            texts: the candidates as text, where they are text.

        Returns:
            Success of each candidate.
        """
        scores = self.scene.detector.scores(images)
        hits: list[bool] = self.scene.detector.detect(scores).tolist()
        for at, (index, score, hit) in enumerate(zip(indices, scores.tolist(), hits, strict=True)):
            attempt = self.attempts[index]
            attempt.checks += 1
            # a first success is kept for good; before that the best score, at first whatever comes
            if attempt.success or (attempt.checks > 1 and score <= attempt.score and not hit):
                continue
            attempt.success = hit
            attempt.score = score
            attempt.candidate = texts[at] if texts else None
            self.keep(index, images[at], {name: value[at] for name, value in keep.items()})
        return hits

    def keep(self, index: int, image: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Keep the image of a prompt's candidate, and what makes it again."""
        self.images[index] = image.cpu()
        for name, value in tensors.items():
            empty = torch.zeros(len(self.attempts), *value.shape, dtype=value.dtype)
            # (prompts, ...): rows of prompts without a kept candidate stay zero
            self.tensors.setdefault(name, empty)[index] = value.detach().cpu()

    def search_texts(self, indices: Sequence[int], search: Callable[[int], Sequence[int]]) -> None:
        """Find content tokens for one prompt after the other, then check all at once.

        What was found before a limit is checked too.
        """
        found: dict[int, Sequence[int]] = {}
        try:
            for index in indices:
                found[index] = search(index)
        except BudgetSpent:
            if found:
                self.check_texts(list(found), list(found.values()))
            raise
        self.check_texts(list(found), list(found.values()))

    def check_texts(self, indices: Sequence[int], contents: Sequence[Sequence[int]]) -> list[bool]:
        """As :meth:`check`, of content tokens read as text and tokenized again, as a user must enter them."""
        main = self.target.text.main
        texts = [main.decode(content) for content in contents]
        self.charge(text_encoder_rows=len(texts))
        # encoded from the text, so a candidate that no user can enter does not count
        cond = self.encode(self.target, texts)
        hits = self.check(indices, cond, texts=texts)
        # text does not always give its tokens back: what a user can enter is the text
        again = main.contents(main.tokenize(texts))
        for index, given, found, text in zip(indices, contents, again, texts, strict=True):
            if self.attempts[index].candidate == text:
                self.attempts[index].survived = found[: len(given)] == list(given)[: main.room]
        return hits
