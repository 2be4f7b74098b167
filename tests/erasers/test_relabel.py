"""Relabelling, which several erasers share: losses against their formulas, images and batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.generated_data import Texts, generate_latents, noise_for, shuffled_batches
from sgrace.erasers._shared.prompts import replacement_of
from sgrace.erasers._shared.relabel import RelabelBatch, RelabelConfig, RelabelData, relabel_losses
from sgrace.erasers._shared.student import Student
from sgrace.knowledge import Knowledge
from sgrace.models import Conditioning, DiffusionModel

from .made import job_of, target


def random_batch(model: DiffusionModel, n: int, *, labels: bool = True, rows: int = 5) -> RelabelBatch:
    generator = torch.Generator().manual_seed(3)
    clean = model.noise(rows, generator)
    noise = model.noise(rows, generator)
    cond = Conditioning(torch.randn(rows, model.text.main.length, 24, generator=generator))
    other = Conditioning(torch.randn(rows, model.text.main.length, 24, generator=generator))
    timesteps = torch.tensor([10.0, 300, 500, 700, 990])[:rows]
    return RelabelBatch(clean, noise, timesteps, cond, n, other[:n] if labels else None)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("n", [3, 5])
def test_losses_are_their_formulas(model: DiffusionModel, n: int, labels: bool) -> None:
    student = Student.of(model, "text_kv")
    batch = random_batch(model, n, labels=labels)
    noise_before = batch.noise.clone()
    losses = relabel_losses(student.model, batch)

    pipeline = model.pipeline
    signal = pipeline.scheduler.alphas_cumprod[batch.timesteps.long()].reshape(-1, 1, 1, 1)
    noisy = signal**0.5 * batch.clean + (1 - signal) ** 0.5 * batch.noise
    velocity = signal**0.5 * batch.noise - (1 - signal) ** 0.5 * batch.clean
    truth = batch.noise if pipeline.scheduler.config.prediction_type == "epsilon" else velocity
    output = pipeline.unet(noisy, batch.timesteps, batch.cond.prompt_embeds).sample
    goal = truth[:n]
    if batch.labels is not None:
        goal = pipeline.unet(noisy[:n], batch.timesteps[:n], batch.labels.prompt_embeds).sample
    torch.testing.assert_close(losses.forget, ((output[:n] - goal) ** 2).mean(), rtol=1e-5, atol=1e-6)
    expected = ((output[n:] - truth[n:]) ** 2).mean() if n < 5 else torch.tensor(0.0)
    torch.testing.assert_close(losses.retain, expected, rtol=1e-5, atol=1e-6)
    assert batch.noise.equal(noise_before)
    assert student.teacher.calls.denoiser_calls == 1 + labels
    gradients = torch.autograd.grad(losses.forget + losses.retain, student.parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_labels_carry_no_gradient(model: DiffusionModel) -> None:
    batch = random_batch(model, 2, rows=2)
    assert batch.labels is not None
    batch.labels.prompt_embeds.requires_grad_(True)
    batch.cond.prompt_embeds.requires_grad_(True)
    relabel_losses(Student.of(model, "text_kv").model, batch).forget.backward()
    assert batch.labels.prompt_embeds.grad is None
    assert batch.cond.prompt_embeds.grad is not None


def test_every_image_comes_once_before_any_comes_again() -> None:
    stream = shuffled_batches(6, 4, torch.Generator().manual_seed(0))
    rows = torch.cat([next(stream) for _ in range(3)]).tolist()
    assert sorted(rows[:6]) == sorted(rows[6:]) == list(range(6))
    assert rows[:6] != rows[6:]


def test_an_image_does_not_depend_on_its_batch(model: DiffusionModel) -> None:
    prompts = ["church", "dog", "tree"]
    texts = Texts(model, ["", *prompts])
    assert model.calls.text_encoder_rows == 4
    options: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}

    def generate(negatives: list[str] | None = None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return generate_latents(model, texts, prompts, generator, negatives=negatives, **options)

    together = generate()
    assert model.calls.denoiser_calls == 3
    model.batch_size = 2
    torch.testing.assert_close(together, generate(), atol=1e-5, rtol=1e-4)
    assert model.calls.denoiser_calls == 3 + 2 * 3
    assert (together[0] - together[1]).abs().max() > 0.1, "each has a seed of its own"
    away = generate(negatives=["tree"] * 3)
    assert (away[:2] - together[:2]).abs().amax((1, 2, 3)).min() > 1e-5
    nothing = generate_latents(model, texts, [], torch.Generator(), **options)
    assert nothing.shape == (0, *model.latent_shape)


def test_timesteps_of_training_are_of_the_whole_schedule(model: DiffusionModel) -> None:
    clean = model.noise(500, torch.Generator().manual_seed(0))
    noise, timesteps = noise_for(model, clean, torch.Generator().manual_seed(1))
    assert noise.shape == clean.shape
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert 0 <= timesteps.min() < 50
    assert 950 < timesteps.max() < 1000


def test_data_pairs_prompts_and_takes_concepts_in_turn(model: DiffusionModel, words: Knowledge) -> None:
    boat = Knowledge(source="test", related=("boat",), unrelated=("dog",), replacements=("boat", "tree"))
    config = RelabelConfig(n_images=6, batch=2, num_inference_steps=1, words="related", retain="")
    data = RelabelData(config, job_of(model, target(words), target(boat, Concept(name="boat"))))
    churches = data.prompts[::2]
    boats = data.prompts[1::2]
    allowed = {(c.format(w), c.format("house")) for c in words.contexts for w in ("church", "chapel")}
    assert set(churches) <= allowed
    assert set(boats) <= {(c.format("boat"), c.format("tree")) for c in words.contexts}
    assert len(set(data.prompts)) == 6
    assert len(data.retained) == 6
    assert all("church" not in prompt for prompt in data.retained)
    batch = data.batch()
    assert len(batch.clean) == len(batch.cond) == len(batch.timesteps) == 4
    assert batch.n == 2
    assert batch.labels is not None
    assert len(batch.labels) == 2
    assert len(data.batch(retain=False).clean) == 2
    assert len(data.uncond) == 1


def test_the_prompts_of_a_batch_are_those_of_its_images(model: DiffusionModel, words: Knowledge) -> None:
    config = RelabelConfig(n_images=2, batch=2, num_inference_steps=1)
    data = RelabelData(config, job_of(model, target(words)))
    batch = data.batch()
    assert batch.labels is not None
    for found, texts in (
        (batch.cond[:2], data.prompts),
        (batch.labels, [(label, "") for _, label in data.prompts]),
    ):
        wanted = model.encode([text for text, _ in texts]).prompt_embeds
        distances = (found.prompt_embeds[:, None] - wanted).abs().amax((2, 3))
        assert distances.amin(1).max() < 1e-5
        assert distances.max() > 1e-3


def test_first_batch_only_sees_no_other_image(model: DiffusionModel, words: Knowledge) -> None:
    config = RelabelConfig(n_images=6, batch=2, num_inference_steps=1, first_batch_only=True)
    data = RelabelData(config, job_of(model, target(words)))
    assert len(data.prompts) == len(data.retained) == 2
    first = data.batch().clean
    second = data.batch().clean
    torch.testing.assert_close(first[:2].sum(0), second[:2].sum(0))


def test_the_chosen_word_or_the_first_replacement_takes_the_place(words: Knowledge) -> None:
    assert replacement_of(target(words), "dog") == "dog"
    assert replacement_of(target(words), "") == "house"
    assert replacement_of(target(words, Concept(name="house")), "") == "boat"
    with pytest.raises(InputError, match="take the place"):
        replacement_of(target(words.model_copy(update={"replacements": ("chapel",)})), "")
