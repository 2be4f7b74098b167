"""The published procedure of S-GRACE, step by step, beside an independent transcription in float64.

The transcription has its own text encoder, optimizer and losses. Only the scheduler and the denoiser's class
are shared, and words, latents, start noise and picks are drawn once for both.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, PNDMScheduler
from torch import Tensor

from sgrace.concept import Concept
from sgrace.erasers.base import Job
from sgrace.erasers.sgrace import SGrace, SGraceConfig
from sgrace.erasers.sgrace.constants import Constants
from sgrace.erasers.sgrace.presets import PRESETS
from sgrace.erasers.sgrace.samples import Samples
from sgrace.erasers.sgrace.seconds import Seconds
from sgrace.erasers.sgrace.text_stage import TextStage
from sgrace.erasers.sgrace.training_loss import LossTerms, TrainingLoss
from sgrace.knowledge import Knowledge, Target
from sgrace.models.families.stable_diffusion import StableDiffusion

from ..conftest import tiny_pipeline

CHURCH = Concept(name="church")
WORDS = Knowledge(
    source="test",
    related=("church", "chapel", "house", "church of a house"),
    unrelated=("dog", "tree", "boat", "house"),
)
SEED = 5
UPDATES = 3


class ReferenceEncoder:
    """CLIP's text encoder, written out."""

    def __init__(self, module: Any) -> None:
        self.config = module.config
        self.values: dict[str, Tensor] = {
            name.removeprefix("text_model."): value.detach().double().clone()
            for name, value in module.state_dict().items()
        }

    @property
    def trained(self) -> list[str]:
        return [name for name in self.values if name.startswith(("encoder.layers", "final_layer_norm"))]

    def __call__(self, embeds: Tensor) -> Tensor:
        n, length, width = embeds.shape
        causal = torch.full((length, length), float("-inf"), dtype=torch.float64).triu(1)
        hidden = embeds + self.values["embeddings.position_embedding.weight"][:length]
        for layer in range(self.config.num_hidden_layers):
            prefix = f"encoder.layers.{layer}"
            normed = self.norm(f"{prefix}.layer_norm1", hidden)
            query = self.heads(f"{prefix}.self_attn.q_proj", normed)
            key = self.heads(f"{prefix}.self_attn.k_proj", normed)
            value = self.heads(f"{prefix}.self_attn.v_proj", normed)
            weights = (query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5 + causal).softmax(-1)
            mixed = (weights @ value).transpose(1, 2).reshape(n, length, width)
            hidden = hidden + self.linear(f"{prefix}.self_attn.out_proj", mixed)
            inner = self.linear(f"{prefix}.mlp.fc1", self.norm(f"{prefix}.layer_norm2", hidden))
            hidden = hidden + self.linear(f"{prefix}.mlp.fc2", inner * torch.sigmoid(1.702 * inner))
        return self.norm("final_layer_norm", hidden)

    def heads(self, name: str, x: Tensor) -> Tensor:
        """(n, length, width) -> (n, heads, length, width of a head)"""
        n, length, _ = x.shape
        return self.linear(name, x).view(n, length, self.config.num_attention_heads, -1).transpose(1, 2)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.values[f"{name}.weight"].T + self.values[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + float(self.config.layer_norm_eps)).sqrt()
        return scaled * self.values[f"{name}.weight"] + self.values[f"{name}.bias"]

    def embed(self, ids: Tensor) -> Tensor:
        return self.values["embeddings.token_embedding.weight"][ids]


class ReferenceAdam:
    """Adam with the usual moments."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.step_number = 0
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    def step(self, values: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        self.step_number += 1
        moved = []
        for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            zero = torch.zeros_like(value)
            first, second = self.moments.get(i, (zero, zero))
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            self.moments[i] = (first, second)
            mean = first / (1 - 0.9**self.step_number)
            scale = (second / (1 - 0.999**self.step_number)).sqrt() + 1e-8
            moved.append(value - self.lr * mean / scale)
        return moved


@dataclass
class Both:
    """Our run, and what the reference computes from the same draws."""

    run: TextStage
    config: SGraceConfig
    encoder: ReferenceEncoder
    unet: Any
    scheduler: DDIMScheduler
    projection: Tensor

    def states(self, text: str) -> Tensor:
        ids = self.run.job.model.text.main.tokenize([text]).ids
        return self.encoder(self.encoder.embed(ids))

    def denoised(self, latents: Tensor, timestep: float, states: Tensor) -> Tensor:
        t = torch.full((len(latents),), timestep, dtype=torch.float64)
        found: Tensor = self.unet(latents, t, states.expand(len(latents), -1, -1)).sample
        return found

    def feature(self, states: Tensor, position: Tensor) -> Tensor:
        return states[torch.arange(len(states)), position] @ self.projection.T

    @property
    def goal(self) -> Tensor:
        """Feature of the bare name, at the first end token."""
        end = self.run.job.model.text.main.tokenize([CHURCH.name]).end
        return self.feature(self.states(CHURCH.name), end)


@pytest.fixture(scope="module")
def both() -> Both:
    pipeline = tiny_pipeline("epsilon")
    # Stable Diffusion 1.4 comes with PNDM; the published code makes a DDIM of its settings
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config)
    model = StableDiffusion.from_pipeline(pipeline)
    model.set_progress_bar_config(disable=True)
    projection = torch.randn(20, 24, generator=torch.Generator().manual_seed(9))
    model.text = model.text.with_projection(projection)
    settings = {"n_adversarial": "4", "n_retain": "3", "edit_steps": str(UPDATES), "words_max": "3"}
    config = SGrace.preset("published", "object", settings).config
    job = Job(model, (Target(CHURCH, WORDS),), SEED, torch.Generator().manual_seed(SEED), random.Random(SEED))
    encoder = ReferenceEncoder(model.text.main.module)
    unet = copy.deepcopy(model.denoiser).double()
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    run = TextStage(config, job, Constants(config, job), [], Seconds())
    return Both(run, config, encoder, unet, scheduler, projection.double())


def test_the_fixed_latent_timestep_and_goals(both: Both) -> None:
    subject = both.run.constants.subjects[0]
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(1, *both.run.job.model.latent_shape, generator=generator).double()
    timestep = random.Random(SEED).randrange(750, 950)
    assert subject.points.timesteps.tolist() == [timestep]
    torch.testing.assert_close(subject.points.goals.double(), noise)

    # floor(t / 1000 * 50) steps from noise, guidance 3: the latent is much cleaner than its timestep says
    scheduler = both.scheduler
    scheduler.set_timesteps(50)
    latents = noise
    prompt, uncond = both.states("a photo of church"), both.states("")
    with torch.no_grad():
        for t in scheduler.timesteps[: int(timestep / 1000 * 50)]:
            plain = both.denoised(latents, float(t), uncond)
            guided = plain + 3.0 * (both.denoised(latents, float(t), prompt) - plain)
            latents = scheduler.step(guided, t, latents).prev_sample
    torch.testing.assert_close(subject.points.latents.double(), latents, rtol=1e-3, atol=1e-3)

    torch.testing.assert_close(subject.feature.parts["pooled"].double(), both.goal, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(subject.pooled.double(), both.goal[0], rtol=1e-4, atol=1e-4)


def attack_loss(both: Both, samples: Samples, embeddings: Tensor) -> Tensor:
    """``MSE(U(z, t, E(e)), z_T) + 0.1 (1 - mean cos(phi(e), f))``, phi at the last content token."""
    points = both.run.constants.subjects[0].points
    states = both.encoder(embeddings)
    latents = points.latents.double().expand(len(states), -1, -1, -1)
    noise = both.denoised(latents, float(points.timesteps), states)
    features = both.feature(states, samples.source.tokens["clip"].end - 1)
    alignment = F.cosine_similarity(features, both.goal, dim=-1).mean()
    return F.mse_loss(noise, points.goals.double().expand_as(noise)) + 0.1 * (1 - alignment)


class ReferenceAttack(NamedTuple):
    """Embeddings before each of the steps, the gradients there, and the embeddings after the last."""

    path: list[Tensor]
    gradients: list[Tensor]
    after: Tensor


def attacked_by_reference(both: Both, samples: Samples) -> ReferenceAttack:
    """Ten steps of Adam on the gradient's sign."""
    current = samples.source.embeddings["clip"].double()
    positions = torch.arange(current.shape[1])
    content = ((positions > 0) & (positions < samples.source.tokens["clip"].end[:, None]))[..., None]
    adam = ReferenceAdam(lr=0.005)
    path = []
    gradients = []
    for _ in range(10):
        leaf = current.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(attack_loss(both, samples, leaf), leaf)
        path.append(current)
        gradients.append(gradient * content)
        [current] = adam.step([current], [(gradient * content).sign()])
    return ReferenceAttack(path, gradients, current)


@pytest.fixture(scope="module")
def samples(both: Both) -> Samples:
    return both.run.adversary.fresh(both.run.constants.subjects[0], None)


def test_samples_start_as_published(both: Both, samples: Samples) -> None:
    main = both.run.job.model.text.main
    texts = [
        main.tokenizer.decode(ids, skip_special_tokens=True) for ids in samples.source.tokens["clip"].ids
    ]
    listed = {word.replace(" ", "") for word in ("church", *WORDS.related)}
    assert texts[0].replace(" ", "") == "church"
    for text in texts[1:]:
        words = text.replace(" ", "").split(",")
        assert len(words) == 3
        assert set(words) <= listed
    torch.testing.assert_close(
        samples.source.embeddings["clip"], both.encoder.embed(samples.source.tokens["clip"].ids).float()
    )


def test_the_attack_in_losses_gradient_signs_and_embeddings(both: Both, samples: Samples) -> None:
    run = both.run
    subject = run.constants.subjects[0]
    path, gradients, after = attacked_by_reference(both, samples)
    loss_at = run.adversary._loss(subject, samples.source)
    for current, gradient in zip(path, gradients, strict=True):
        leaf = current.float().requires_grad_(True)
        loss = loss_at({"clip": leaf}, slice(0, len(leaf)), 0)
        torch.testing.assert_close(
            loss.detach().double(), attack_loss(both, samples, current).detach(), rtol=1e-5, atol=1e-6
        )
        (ours,) = torch.autograd.grad(loss, leaf)
        clear = gradient.abs() > 1e-4 * gradient.abs().max()  # smaller ones are rounding in float32
        assert clear.float().mean() > 0.1
        assert torch.equal(ours.sign()[clear], gradient.sign().float()[clear])

    found = run.adversary.attacked(subject, samples).source.embeddings["clip"].double()
    assert (after - samples.source.embeddings["clip"]).abs().max() > 0.04  # ten steps of 0.005
    equal = (found - after).abs() < 1e-4
    assert equal.float().mean() > 0.99


def reference_terms(
    both: Both, reference: ReferenceEncoder, start: ReferenceEncoder, samples: Samples, picks: Tensor
) -> tuple[Tensor, ...]:
    """The four terms of the training loss, each without its weight."""
    embeddings = samples.source.embeddings["clip"].double()
    features = both.feature(reference(embeddings), samples.source.tokens["clip"].end - 1)
    before = both.feature(start(embeddings), samples.source.tokens["clip"].end - 1)
    phrases = [
        f"a {picture} of {word}" for word in WORDS.unrelated for picture in ("photo", "picture", "image")
    ]
    ids = both.run.job.model.text.main.tokenize([phrases[i] for i in picks.tolist()]).ids
    retained = start.embed(ids)
    distance = sum((reference.values[name] - start.values[name]).abs().mean() for name in reference.trained)
    assert isinstance(distance, Tensor)
    return (
        1 + F.cosine_similarity(features, both.goal, dim=-1).mean(),
        1 - F.cosine_similarity(features, before, dim=-1).mean(),
        distance,
        F.mse_loss(reference(retained), start(retained)),
    )


def test_every_term_of_the_loss_and_the_parameters_after_three_updates(both: Both, samples: Samples) -> None:
    run = both.run
    start = both.encoder
    reference = ReferenceEncoder(run.job.model.text.main.module)
    adam = ReferenceAdam(lr=1e-5)
    loss_of = TrainingLoss.of(both.config, run.constants, run.student, [samples])
    run.student.requires_grad_(True)
    weights = (1.0, both.config.similarity_weight, both.config.parameter_weight, both.config.retain_weight)
    assert weights == (1.0, 1.0, 0.2, 1.0)
    for _ in range(UPDATES):
        picks = run.constants.retain_picks()
        terms = loss_of.terms(picks)
        leaves = {name: reference.values[name].clone().requires_grad_(True) for name in reference.trained}
        reference.values.update(leaves)
        wanted = reference_terms(both, reference, start, samples, picks)
        assert_equal_terms(terms, wanted)
        total = sum(weight * term for weight, term in zip(weights, wanted, strict=True))
        assert isinstance(total, Tensor)
        gradients = torch.autograd.grad(total, list(leaves.values()))
        moved = adam.step([leaf.detach() for leaf in leaves.values()], list(gradients))
        reference.values.update(zip(leaves, moved, strict=True))
        run.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total(both.config))
        run.optimizer.step()
    run.student.requires_grad_(False)

    [changed] = run.student.changed().values()
    assert {name.removeprefix("text_model.") for name in changed} >= set(reference.trained)
    for name, value in changed.items():
        short = name.removeprefix("text_model.")
        # adding a constant to all keys changes no attention: this gradient is rounding, which Adam enlarges
        if short in reference.trained and not short.endswith("k_proj.bias"):
            difference = (value.double() - reference.values[short]).abs()
            assert difference.quantile(0.99) < 1e-6, name  # three updates of 1e-5


def assert_equal_terms(terms: LossTerms, wanted: tuple[Tensor, ...]) -> None:
    found = (terms.erase, terms.similarity, terms.parameters, terms.retain)
    for ours, reference in zip(found, wanted, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours.detach().double(), reference.detach(), rtol=2e-3, atol=1e-6)


def test_the_nine_published_configurations_are_named_presets() -> None:
    """Words, random tokens, update chance and weights, as in the published files."""

    def values(preset: str, kind: Any = "object") -> tuple[float, ...]:
        c = SGrace.preset(preset, kind).config
        assert (c.rounds, c.attack_steps, c.edit_steps, c.n_adversarial, c.lr) == (4, 10, 50, 8, 1e-5)
        weights = (c.similarity_weight, c.retain_weight, c.parameter_weight)
        return (c.words_min, c.words_max, c.random_ids, c.attack_lr, c.update_chance, *weights)

    assert values("published", "object") == (3, 20, 0, 0.005, 0.15, 1.0, 1.0, 0.2)
    assert values("published", "style") == (3, 20, 0, 0.005, 0.15, 1.2, 1.0, 0.2)
    assert values("published", "harmful") == (3, 10, 5, 0.005, 0.8, 1.2, 1.2, 0.3)
    assert values("published-parachute") == (3, 20, 0, 0.005, 0.15, 1.2, 1.0, 0.2)
    assert values("published-garbage-truck") == (3, 10, 3, 0.005, 0.15, 1.5, 1.5, 0.3)
    assert values("published-tench") == (3, 10, 3, 0.005, 0.15, 1.5, 1.5, 0.3)
    assert values("published-picasso", "style") == (3, 10, 3, 0.01, 0.15, 1.1, 2.0, 0.3)
    assert values("published-violence", "harmful") == (3, 10, 5, 0.005, 0.15, 1.1, 1.2, 0.3)
    assert values("published-illegal-activity", "harmful") == (3, 10, 5, 0.005, 0.15, 1.1, 1.2, 0.3)
    assert len([name for name in PRESETS if name.startswith("published")]) == 7  # the first one is three


def test_retain_words_of_a_step_are_distinct(both: Both) -> None:
    constants = both.run.constants
    for _ in range(20):
        words = constants.retain_picks() // 3
        assert len(words) == 3
        assert len(set(words.tolist())) == 3
