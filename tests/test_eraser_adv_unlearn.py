"""AdvUnlearn: its loss against the formula, the searched prefix, the release's defects, prompts, cost."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.embedding_attack import attack_embeddings
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers._shared.prompts import kept_prompts, shown_prompts
from sgrace.erasers.adv_unlearn import AdvUnlearn, Batch, Pool, adv_unlearn_loss, prefixed
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {
    "iterations": "4", "warm_up": "1", "attack_steps": "2", "batch": "2", "retain_batch": "3", "pool": "6", "n_retained": "3",
    "num_inference_steps": "4", "lr": "1e-3",
}  # fmt: skip


def pool_of(model: StableDiffusion, prompts: list[str]) -> Pool:
    eraser = AdvUnlearn.preset(None, "object", SHORT)
    return Pool.drawn(eraser.config, model, Texts(model, ["", *prompts]), prompts, 1000, torch.Generator().manual_seed(0))


def test_the_loss_is_its_formula(model: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = model.tokenize(["church", "a photo of church", "dog", "tree", "boat"]).ids
    latents, targets = (torch.randn(5, *model.latent_shape, generator=generator) for _ in range(2))
    timesteps = torch.tensor([20, 400, 990, 7, 650])
    embeddings = model.embed(ids) + torch.randn(5, model.text_length, 24, generator=generator)
    loss = adv_unlearn_loss(model, Batch(ids, embeddings, latents, timesteps, targets), 2, 0.3)
    assert (model.calls.unet_calls, model.calls.text_encoder_calls) == (1, 1)
    errors = []
    for i in range(5):
        states = model.encode(ids[i : i + 1], embeddings[i : i + 1])
        found = model.pipeline.unet(latents[i : i + 1], timesteps[i], states).sample[0]
        errors.append(((found - targets[i]) ** 2).mean())
    expected = (errors[0] + errors[1]) / 2 + 0.3 * (errors[2] + errors[3] + errors[4]) / 3
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_targets_lie_on_the_other_side_of_the_empty_prompt(model: StableDiffusion) -> None:
    prompts = ["church", "a photo of dog"]
    pool = pool_of(model, prompts)
    assert pool.each == 3
    assert pool.rows(torch.tensor([0, 1, 1, 0]), torch.Generator()).div(3, rounding_mode="floor").tolist() == [0, 1, 1, 0]
    empty = model.encode(model.tokenize([""]).ids)
    for row, target in enumerate(pool.targets(model, 2.0)):
        latents, timestep = pool.latents[row : row + 1], pool.timesteps[row]
        states = model.encode(model.tokenize([prompts[row // 3]]).ids)
        own, nothing = (model.pipeline.unet(latents, timestep, text).sample[0] for text in (states, empty))
        torch.testing.assert_close(target, nothing - 2.0 * (own - nothing), rtol=1e-4, atol=1e-5)


def test_the_search_moves_the_prefix_only_and_brings_the_concept_back(model: StableDiffusion) -> None:
    eraser = AdvUnlearn.preset(None, "object", {**SHORT, "attack_steps": "20", "attack_lr": "0.5", "prefix": "2"})
    pool = pool_of(model, ["church"])
    ids = prefixed(model, ["dog"], 2, count_words=False)  # the student's prompt says something else
    found = eraser.attacked(model, ids, pool, torch.tensor([0]), torch.Generator().manual_seed(0))
    start = model.embed(ids)
    assert set((found != start).any(-1).nonzero()[:, 1].tolist()) == {1, 2}

    def error(embeddings: torch.Tensor) -> float:
        states = model.encode(ids, embeddings).expand(len(pool.latents), -1, -1)
        return (model.predict(pool.latents, pool.timesteps, states) - pool.own).square().mean().item()

    assert error(found) < 0.9 * error(start)


def test_a_prefix_stands_before_the_whole_prompt_or_as_many_tokens_as_it_has_words(model: StableDiffusion) -> None:
    bos, eos = model.pipeline.tokenizer.bos_token_id, model.pipeline.tokenizer.eos_token_id
    cat = model.content_tokens("cat dog")
    assert len(cat) == 4
    right, counted = (prefixed(model, ["cat dog"], 1, count_words=by).tolist()[0] for by in (False, True))
    assert right[:7] == [bos, 0, *cat, eos]
    assert counted[:6] == [bos, 0, cat[0], cat[1], cat[3], eos]
    assert prefixed(model, ["a dog"], 1, count_words=True).equal(prefixed(model, ["a dog"], 1, count_words=False))


def test_gradients_of_the_attack_pile_up_if_so_asked() -> None:
    gradients = torch.tensor([3.0, -1.0, -1.0, -4.0])

    def path(*, accumulate: bool) -> float:
        start, mask = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        return attack_embeddings(
            start, mask, lambda x, step: (gradients[step] * x).sum(), steps=4, lr=1.0, radius=0.0, optimizer="sign_pgd",
            projection="none", around=start, accumulate=accumulate,
        ).item()  # fmt: skip

    assert path(accumulate=False) == -1 + 1 + 1 + 1
    assert path(accumulate=True) == -1 - 1 - 1 + 1  # the sums are 3, 2, 1, -3


def test_the_release_differs_from_the_paper(model: StableDiffusion, words: Knowledge) -> None:
    cat = Concept(name="cat")  # more tokens than words
    paper, piled, released = (
        AdvUnlearn.preset(preset, "harmful", {**SHORT, "attack_steps": "3", **more}).erase(model, [cat], [words]).text_encoder
        for preset, more in (("paper-sd14-nudity", {}), ("paper-sd14-nudity", {"accumulate": "1"}), ("as_released", {}))
    )
    differ = [
        any(not a.equal(b) for a, b in zip(left.parameters(), right.parameters(), strict=True))
        for left, right in ((paper, piled), (piled, released))
    ]
    assert differ == [True, True]


def test_prompts_of_the_concept_and_of_the_rest(words: Knowledge) -> None:
    rng = random.Random(0)
    assert shown_prompts(CHURCH, words, 0, rng) == [CHURCH.prompt]
    shown = shown_prompts(CHURCH, words, 10, rng)
    assert len(shown) == 10
    assert set(shown) == {c.format(w) for c in words.contexts for w in ("church", "chapel")}
    kept = kept_prompts([CHURCH, Concept(name="dog")], [words, words], 1000, rng)
    assert sorted(kept) == sorted(c.format(w) for c in words.unrelated_contexts for w in ("tree", "boat", "house"))
    assert len(kept_prompts([CHURCH], [words], 3, rng)) == 3
    with pytest.raises(InputError, match="No unrelated words"):
        kept_prompts([Concept(name="dog")], [words.model_copy(update={"unrelated": ("dog",)})], 3, rng)


@pytest.mark.parametrize(("warm_up", "attacks"), [("0", 4), ("1", 3), ("9", 0)])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, warm_up: str, attacks: int) -> None:
    cost = AdvUnlearn.preset(None, "object", {**SHORT, "warm_up": warm_up}).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["text_encoder_calls"] == 1 + 4 + 2 * attacks
    assert cost["text_encoder_rows"] == (1 + 3 + 1) + 4 * (2 + 3) + 2 * attacks * 2, "each prompt once, then the batches"
    fixed = 2 * 6 + 4 + 4 * (2 + 3) + 2 * attacks * 2  # two outputs for six samples, one for each of the retained, then the batches
    assert fixed <= cost["unet_rows"] <= fixed + 2 * 3 * (6 + 4), "a sample stops before its fourth guided step"


def test_no_more_samples_are_drawn_than_are_used(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "warm_up": "9", "iterations": "1", "pool": "5000"}
    cost = AdvUnlearn.preset(None, "object", settings).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["unet_rows"] <= (2 + 4) * 2 * 3 + 2 * 2 + 4 + 5


def test_only_the_layers_and_the_last_norm_are_trained(model: StableDiffusion, words: Knowledge) -> None:
    erasure = AdvUnlearn.preset(None, "object", SHORT).erase(model, [CHURCH], [words])
    before = dict(model.text_encoder.named_parameters())
    moved = {n for n, p in erasure.text_encoder.named_parameters() if not p.equal(before[n])}
    assert moved
    assert not any("embeddings." in name for name in moved)
    assert any("final_layer_norm" in name for name in moved)
    assert erasure.recipe["cost"]["trained_parameters"] == sum(p.numel() for n, p in before.items() if "embeddings." not in n)
    assert not any(p.requires_grad or p.grad is not None for p in model.pipeline.unet.parameters())
