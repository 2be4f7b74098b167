"""SAFREE: projections and variants against their formulas, which steps are filtered, cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace.concept import Concept
from sgrace.erasers.safree import SAFREE
from sgrace.erasers.safree.guidance import SAFREEGuidance, SAFREESampling
from sgrace.erasers.safree.projection import Variants, orthonormal, projected_away, variants
from sgrace.knowledge import Knowledge, Target
from sgrace.models import Conditioning, DiffusionModel
from sgrace.models.guidance import Sampling, SamplingCost

from .made import CHURCH, denoised, denoised_each, encode, guided

BOAT = Concept(name="boat")
ALWAYS = {"filter_steps": "50", "middle": "-10"}


def safree_of(model: DiffusionModel) -> SAFREEGuidance:
    assert isinstance(model.guidance, SAFREEGuidance)
    return model.guidance


@pytest.mark.parametrize("onward", [False, True])
def test_projecting_away_is_its_formula(onward: bool) -> None:
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(3, 8, 10))
    pooled = rng.normal(size=(3, 8, 10))
    present = np.zeros((3, 8), dtype=bool)
    for i, n in enumerate((4, 1, 5)):
        present[i, 1 : 1 + n] = True
    pooled[~present] = 0
    phrases = rng.normal(size=(4, 10))
    phrases[3] = phrases[0] + phrases[1]  # of no use to the span
    span = orthonormal(torch.tensor(phrases))
    assert span.shape == (3, 10)
    without = Variants(torch.tensor(pooled), torch.tensor(present))
    found = projected_away(torch.tensor(embeds), without, span, 0.01, onward=onward)
    concept = phrases[:3].T @ np.linalg.inv(phrases[:3] @ phrases[:3].T) @ phrases[:3]
    for i in range(3):
        places = np.flatnonzero(present[i])
        rows = pooled[i, places]
        inside = rows.T @ np.linalg.inv(rows @ rows.T) @ rows
        distance = np.linalg.norm(rows - rows @ concept, axis=1)
        expected = embeds[i].copy()
        first = None
        for k, place in enumerate(places):
            others = np.delete(distance, k)
            if len(others) == 0 or distance[k] >= 1.01 * others.mean():
                expected[place] = (np.eye(10) - concept) @ inside @ embeds[i, place]
                first = place if first is None else first
            elif onward and first is not None:
                expected[place] = (np.eye(10) - concept) @ embeds[i, place]
        if onward:
            tail = slice(places[-1] + 1, None)
            expected[tail] = embeds[i, tail] @ (np.eye(10) - concept)
        np.testing.assert_allclose(found.prompt_embeds[i].numpy(), expected, atol=1e-10)
        pairs = zip(expected[places], embeds[i, places], strict=True)
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        assert found.change[i].item() == pytest.approx(1 - np.mean(cosines))


@pytest.mark.parametrize("leave_out", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_variants_lack_one_token_each(model: DiffusionModel, leave_out: bool, embedded: bool) -> None:
    main = model.text.main
    texts = ["a photo of church", "dog"]
    tokens = main.tokenize(texts)
    with torch.no_grad():
        cond = model.encode_tokens(tokens, main.embed(tokens.ids) if embedded else None)
    model.calls.text_encoder_calls = 0
    found = variants(model, cond, leave_out=leave_out)
    assert model.calls.text_encoder_calls == 1
    for i, text in enumerate(texts):
        content = main.content_tokens(text)
        assert found.present[i].nonzero().flatten().tolist() == list(range(1, len(content) + 1))
        for k in range(len(content)):
            other = main.assemble([content[:k] + ([] if leave_out else [0]) + content[k + 1 :]])
            with torch.no_grad():
                expected = model.encode_tokens(other).at(other.end)[0]
            torch.testing.assert_close(found.pooled[i, k + 1], expected, atol=1e-5, rtol=1e-4)
    assert found.pooled[~found.present].abs().sum() == 0


def test_variants_of_embeddings_are_of_the_embeddings(model: DiffusionModel) -> None:
    """Embeddings that no token has: without the first of two, the second moves up as it is."""
    main = model.text.main
    tokens = main.tokenize(["church dog"])
    moved = main.embed(tokens.ids).detach() + 0.5
    with torch.no_grad():
        cond = model.encode_tokens(tokens, moved)
        found = variants(model, cond, leave_out=True)
        shorter = torch.cat([moved[:, :1], moved[:, 2:], moved[:, -1:]], dim=1)
        expected = model.encode_tokens(main.tokenize(["dog"]), shorter).at(tokens.end - 1)[0]
    torch.testing.assert_close(found.pooled[0, 1], expected, atol=1e-5, rtol=1e-4)


def test_a_prompt_is_filtered_for_its_first_steps(model: DiffusionModel, words: Knowledge) -> None:
    settings = {**ALWAYS, "filter_steps": "25", "removal": "left-out", "reach": "onward"}
    safe = guided(SAFREE, model, words, settings)
    cond = encode(safe, "a photo of church", "tree")
    uncond = encode(model, "")
    noise = model.initial_noise([1, 2])
    found = variants(model, cond, leave_out=True)
    span = safree_of(safe).tensors["span"]
    turned = projected_away(cond.prompt_embeds, found, span, 0.01, onward=True).prompt_embeds.float()
    assert ((turned - cond.prompt_embeds).abs().amax((1, 2)) > 1e-3).all()
    half = model.denoise(
        noise, cond.with_embeds(turned), uncond, num_inference_steps=4, guidance_scale=2.0, stop=2
    )
    expected = model.denoise(
        half.latents, cond, uncond, num_inference_steps=4, guidance_scale=2.0, start=2
    ).latents
    torch.testing.assert_close(denoised(safe, noise, cond, 4), expected, atol=1e-5, rtol=1e-4)
    each = denoised_each(safe, noise, cond, 4, [1, 4])
    torch.testing.assert_close(each[1:], expected[1:], atol=1e-5, rtol=1e-4)


def test_safree_is_a_function_of_the_conditioning_alone(model: DiffusionModel, words: Knowledge) -> None:
    """Who encoded the prompts, what was encoded in between, order and batch make no difference."""
    safe = guided(SAFREE, model, words, ALWAYS)
    noise = model.initial_noise([1, 2])
    cond = encode(model, "a photo of church", "tree")
    expected = denoised(safe, noise, cond, 3)
    plain = denoised(model, noise, cond, 3)
    assert ((expected - plain).abs().amax((1, 2, 3)) > 1e-4).all()
    encode(safe, "dog", "a picture of boat")
    assert denoised(safe, noise, cond, 3).equal(expected)
    assert denoised(safe, noise, encode(safe, "a photo of church", "tree"), 3).equal(expected)
    for same, places in (
        (cond[[1, 0]], [1, 0]),
        (cond[1:], [1]),
        (Conditioning.cat([cond[[1]], cond[[0]]]), [1, 0]),
        (cond.detach(), [0, 1]),
        (cond[[0]].expand(2), [0, 0]),
    ):
        found = denoised(safe, noise[places], same, 3)
        torch.testing.assert_close(found, expected[places], atol=1e-5, rtol=1e-4)


def test_safree_filters_embeddings_and_leaves_what_no_text_encoder_made(
    model: DiffusionModel, words: Knowledge
) -> None:
    safe = guided(SAFREE, model, words, ALWAYS)
    main = model.text.main
    tokens = main.tokenize(["a photo of church"])
    noise = model.initial_noise([1])
    with torch.no_grad():
        soft = safe.encode_tokens(tokens, main.embed(tokens.ids) + 0.5)
    assert not denoised(safe, noise, soft, 3).equal(denoised(model, noise, soft, 3))
    other = soft.with_embeds(soft.prompt_embeds + 1e-3)
    assert denoised(safe, noise, other, 3).equal(denoised(model, noise, other, 3))
    nothing = encode(safe, "")
    assert denoised(safe, noise, nothing, 3).equal(denoised(model, noise, nothing, 3))


def test_safree_makes_no_more_calls_than_it_needs(model: DiffusionModel, words: Knowledge) -> None:
    targets = [Target(CHURCH, words), Target(BOAT, words)]
    erasure = SAFREE.preset("as-released", "object", ALWAYS).erase(model, targets)
    assert erasure.recipe.cost.text_encoder_calls == 2
    assert erasure.recipe.cost.denoiser_calls == 0
    safe = erasure.apply(model)
    cond = encode(safe, "a photo of church", "dog", "")
    uncond = encode(model, "")
    noise = model.initial_noise([1, 2, 3])
    n = len(model.text.main.content_tokens("a photo of church")) + 1
    assert safe.sampling_cost(cond, 2.0) == SamplingCost(6, n)
    calls = safe.metered()
    found = calls.denoise(noise, cond, uncond, num_inference_steps=3, guidance_scale=2.0).latents
    assert (calls.calls.text_encoder_calls, calls.calls.text_encoder_rows) == (1, n)
    assert calls.calls.denoiser_rows == 3 * 6
    negative = encode(model, "church, boat, chapel")
    plain = model.denoise(noise[2:], cond[2:], negative, num_inference_steps=3, guidance_scale=2.0)
    torch.testing.assert_close(found[2:], plain.latents, atol=1e-5, rtol=1e-4)


def test_the_filter_takes_as_many_steps_as_its_sigmoid_says(model: DiffusionModel, words: Knowledge) -> None:
    safe = guided(SAFREE, model, words, {"middle": "0.7", "slope": "0.4"})
    cond = encode(safe, "a photo of church", "chapel", "dog tree boat")
    guidance = safree_of(safe)
    sampling = guidance.sampling(safe, Sampling(safe.predict, cond, cond[[0]], 2.0, 200))
    assert isinstance(sampling, SAFREESampling)
    without = variants(model, cond, leave_out=False)
    change = projected_away(cond.prompt_embeds, without, guidance.tensors["span"], 0.01).change
    # ten steps of fifty are forty of two hundred
    expected = [round(40 / (1 + np.exp(-2 * 0.4 * (10 * b - 0.7)))) for b in change.tolist()]
    assert sampling.steps.tolist() == expected
    assert len(set(expected)) > 1
