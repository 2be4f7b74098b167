"""Relabelling, which several erasers share: losses against their formulas, pictures and batches."""

from __future__ import annotations

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.generated_data import Texts, draw_latents, picks
from sgrace.erasers._shared.prompts import stand_in
from sgrace.erasers._shared.relabel import Batch, RelabelConfig, RelabelData, relabel_losses
from sgrace.erasers._shared.student import Student
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")


def random_batch(model: StableDiffusion, n: int, *, labels: bool = True, rows: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(rows, *model.latent_shape, generator=generator) for _ in range(2))
    states, other = (torch.randn(rows, model.text_length, 24, generator=generator) for _ in range(2))
    return Batch(clean, noise, torch.tensor([10, 300, 500, 700, 990])[:rows], states, n, other[:n] if labels else None)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("n", [3, 5])
def test_losses_are_their_formulas(model: StableDiffusion, n: int, labels: bool) -> None:
    student = Student.of(model, "cross_attention_kv")
    batch = random_batch(model, n, labels=labels)
    noise_before = batch.noise.clone()
    taught, plain = relabel_losses(student.model, batch)

    signal = model.pipeline.scheduler.alphas_cumprod[batch.timesteps].reshape(-1, 1, 1, 1)
    noisy = signal**0.5 * batch.clean + (1 - signal) ** 0.5 * batch.noise
    truth = batch.noise if model.prediction_type == "epsilon" else signal**0.5 * batch.noise - (1 - signal) ** 0.5 * batch.clean
    unet = model.pipeline.unet
    output = unet(noisy, batch.timesteps, batch.states).sample
    goal = unet(noisy[:n], batch.timesteps[:n], batch.labels).sample if labels else truth[:n]
    torch.testing.assert_close(taught, ((output[:n] - goal) ** 2).mean(), rtol=1e-5, atol=1e-6)
    expected = ((output[n:] - truth[n:]) ** 2).mean() if n < 5 else torch.tensor(0.0)
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-6)
    assert batch.noise.equal(noise_before)
    assert student.teacher.calls.unet_calls == 1 + labels
    gradients = torch.autograd.grad(taught + plain, student.parameters)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_labels_carry_no_gradient(model: StableDiffusion) -> None:
    batch = random_batch(model, 2, rows=2)
    assert batch.labels is not None
    batch.labels.requires_grad_(True)
    batch.states.requires_grad_(True)
    taught, _ = relabel_losses(Student.of(model, "cross_attention_kv").model, batch)
    taught.backward()
    assert batch.labels.grad is None
    assert batch.states.grad is not None


def test_every_picture_comes_once_before_any_comes_again() -> None:
    stream = picks(6, 4, torch.Generator().manual_seed(0))
    rows = torch.cat([next(stream) for _ in range(3)]).tolist()
    assert sorted(rows[:6]) == sorted(rows[6:]) == list(range(6))
    assert rows[:6] != rows[6:]


def test_a_picture_does_not_depend_on_its_batch(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["church", "dog", "tree"]
    texts = Texts(model, ["", *prompts])
    assert model.calls.text_encoder_rows == 4
    options = {"num_inference_steps": 3, "guidance_scale": 2.0}
    together = draw_latents(model, texts, prompts, torch.Generator().manual_seed(1), **options)
    monkeypatch.setattr("sgrace.erasers._shared.generated_data.DRAW_BATCH", 2)
    apart = draw_latents(model, texts, prompts, torch.Generator().manual_seed(1), **options)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1, "each has a seed of its own"
    away = draw_latents(model, texts, prompts, torch.Generator().manual_seed(1), negatives=["tree"] * 3, **options)
    assert (away[:2] - together[:2]).abs().amax((1, 2, 3)).min() > 1e-5
    assert draw_latents(model, texts, [], torch.Generator(), **options).shape == (0, *model.latent_shape)


def test_data_pairs_prompts_and_takes_concepts_in_turn(model: StableDiffusion, words: Knowledge) -> None:
    boat = Knowledge(source="test", related=("boat",), unrelated=("dog",), replacements=("boat", "tree"))
    config = RelabelConfig(n_pictures=6, batch=2, num_inference_steps=1, words="related", retain="")
    data = RelabelData(config, model, [CHURCH, Concept(name="boat")], [words, boat], 0)
    churches, boats = data.prompts[::2], data.prompts[1::2]
    allowed = {(c.format(w), c.format("house")) for c in words.contexts for w in ("church", "chapel")}
    assert set(churches) <= allowed
    assert set(boats) <= {(c.format("boat"), c.format("tree")) for c in words.contexts}
    assert len(set(data.prompts)) == 6
    assert len(data.retained) == 6
    assert all("church" not in prompt for prompt in data.retained)
    batch = data.batch()
    assert (len(batch.clean), batch.n) == (4, 2)
    assert batch.labels is not None
    assert len(batch.labels) == 2
    assert len(data.batch(retain=False).clean) == 2


def test_first_batch_only_sees_no_other_picture(model: StableDiffusion, words: Knowledge) -> None:
    config = RelabelConfig(n_pictures=6, batch=2, num_inference_steps=1, first_batch_only=True)
    data = RelabelData(config, model, [CHURCH], [words], 0)
    assert len(data.prompts) == len(data.retained) == 2
    first, second = data.batch().clean, data.batch().clean
    torch.testing.assert_close(first[:2].sum(0), second[:2].sum(0))


def test_the_chosen_word_or_the_first_surrogate_stands_in(words: Knowledge) -> None:
    assert stand_in(CHURCH, words, "dog") == "dog"
    assert stand_in(CHURCH, words, "") == "house"
    assert stand_in(Concept(name="house"), words, "") == "boat"
    with pytest.raises(InputError, match="take the place"):
        stand_in(CHURCH, words.model_copy(update={"replacements": ("chapel",)}), "")
