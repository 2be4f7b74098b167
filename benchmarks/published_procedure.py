"""The published procedure of S-GRACE (arXiv 2510.27285) as it was released, for what it costs.

Written from its equations and the counts of its loops, on the bare networks. What it wastes stays: prompts go
through the text encoder one by one, the attacked ones twice; and all weights of the denoiser and of the text
encoder get gradients that nobody uses.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sgrace.models import DiffusionModel, TextEncoder

SAMPLES = 8
#: Samples that go through the denoiser together.
BATCH = 4
#: Retain words in an edit step, as for nudity.
ANCHORS = 16
#: What a run consists of: steps of the partial sample (35 to 47), then rounds x steps.
WHOLE = {"sampling": 42, "attack": 4 * 10, "edit": 4 * 50}


@dataclass
class Work:
    """Rows that went through the networks."""

    denoiser: int = 0
    text: int = 0


@dataclass
class Published:
    """One run, step by step.

    Attributes:
        model: in float32; its weights get gradients.
        name: of the concept.
        related, unrelated: words.
        work: done so far.
    """

    model: DiffusionModel
    name: str
    related: tuple[str, ...]
    unrelated: tuple[str, ...]
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.encoder = self.model.text.main
        self.frozen = replace(self.encoder, module=copy.deepcopy(self.encoder.module))
        self.encoder.module.requires_grad_(requires_grad=True)
        self.model.denoiser.requires_grad_(requires_grad=True)
        named = dict(self.encoder.module.named_parameters())
        self.trained = [named[name] for name in self.encoder.trainable()]
        self.original = [value.detach().clone() for value in self.trained]
        self.adam = torch.optim.Adam(self.trained, lr=1e-5)
        self.noise = torch.randn(1, *self.model.latent_shape).to(self.model.device)
        self.latents = self.noise.clone()
        self.timestep = torch.tensor(850.0, device=self.model.device)
        words = (self.related * SAMPLES)[: SAMPLES - 1]
        self.tokens = self.encoder.tokenize([self.name, *(f"{self.name}, {word}" for word in words)])
        with torch.no_grad():
            self.goal = self._feature(self.frozen, self.encoder.tokenize([self.name]).ids, None, -1)
            self.embeddings = self.encoder.embed(self.tokens.ids).clone().requires_grad_()
            self.before = self._features(self.encoder, self.embeddings)
        self.attack_adam = torch.optim.Adam([self.embeddings], lr=0.005)

    def sampling(self) -> None:
        """A step of the partial sample under guidance."""
        with torch.no_grad():
            states = torch.cat([self._states(self.frozen, self._ids(text), None) for text in ("", self.name)])
            plain, prompted = self._denoised(self.latents.expand(2, -1, -1, -1), states).chunk(2)
            # cost alone counts here: a step of this size keeps random networks finite
            self.latents = self.latents - 0.01 * (plain + 3.0 * (prompted - plain))

    def attack(self) -> None:
        """``MSE(U(z, t, E(e)), z_T) + 0.1 (1 - mean cos(phi(e), f))``: its gradient's sign goes into Adam."""
        for at in range(0, SAMPLES, BATCH):
            rows = range(at, at + BATCH)
            states = torch.cat([self._state(self.encoder, self.embeddings, i) for i in rows])
            noise = self._denoised(self.latents.expand(BATCH, -1, -1, -1), states)
            again = torch.cat([self._state(self.encoder, self.embeddings, i) for i in rows])
            features = self.model.project(again[range(BATCH), self.tokens.end[at : at + BATCH] - 1])
            alignment = F.cosine_similarity(features, self.goal).mean()
            loss = F.mse_loss(noise, self.noise.expand_as(noise)) + 0.1 * (1 - alignment)
            torch.autograd.backward(loss)
        assert self.embeddings.grad is not None
        self.embeddings.grad.sign_()
        self.attack_adam.step()
        self.attack_adam.zero_grad()

    def edit(self) -> None:
        """The erase, similarity, parameter and anchor terms, and a step of Adam."""
        embeddings = self.embeddings.detach()
        features = self._features(self.encoder, embeddings)
        again = self._features(self.encoder, embeddings)
        distances = [(now - then).abs().mean() for now, then in zip(self.trained, self.original, strict=True)]
        words = (self.unrelated * ANCHORS)[:ANCHORS]
        ids = [self._ids(f"a photo of {word}") for word in words]
        with torch.no_grad():
            wanted = torch.cat([self._states(self.frozen, each, None) for each in ids])
        found = torch.cat([self._states(self.encoder, each, None) for each in ids])
        loss = (
            (1 + F.cosine_similarity(features, self.goal).mean())
            + 1.2 * (1 - F.cosine_similarity(again, self.before).mean())
            + 0.3 * torch.stack(distances).sum()
            + 1.2 * F.mse_loss(found, wanted)
        )
        self.adam.zero_grad()
        torch.autograd.backward(loss)
        self.adam.step()

    def _ids(self, text: str) -> Tensor:
        return self.encoder.tokenize([text]).ids

    def _states(self, encoder: TextEncoder, ids: Tensor, embeddings: Tensor | None) -> Tensor:
        self.work.text += len(ids)
        # (1, length) -> (1, length, width)
        states: Tensor = encoder.run(ids, embeddings).last_hidden_state
        return states

    def _state(self, encoder: TextEncoder, embeddings: Tensor, i: int) -> Tensor:
        return self._states(encoder, self.tokens.ids[i : i + 1], embeddings[i : i + 1])

    def _feature(self, encoder: TextEncoder, ids: Tensor, embeddings: Tensor | None, position: int) -> Tensor:
        return self.model.project(self._states(encoder, ids, embeddings)[:, position])

    def _features(self, encoder: TextEncoder, embeddings: Tensor) -> Tensor:
        """Features of the samples at the last content token."""
        ends = self.tokens.end.tolist()
        rows = [
            self._feature(encoder, self.tokens.ids[i : i + 1], embeddings[i : i + 1], end - 1)
            for i, end in enumerate(ends)
        ]
        return torch.cat(rows)

    def _denoised(self, latents: Tensor, states: Tensor) -> Tensor:
        self.work.denoiser += len(latents)
        noise: Tensor = self.model.denoiser(latents, self.timestep, states).sample
        return noise
