"""AdvUnlearn: its loss against the formula, the attacked prefix, the release's defects, prompts, cost."""

from __future__ import annotations

import random

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers._shared.prompts import concept_prompts, retain_prompts
from sgrace.erasers.adv_unlearn import AdvUnlearn
from sgrace.erasers.adv_unlearn.attack import attacked, with_prefix
from sgrace.erasers.adv_unlearn.eraser import adv_unlearn_loss
from sgrace.erasers.adv_unlearn.pool import Batch, Pool
from sgrace.erasure import Erasure
from sgrace.knowledge import Knowledge, Target
from sgrace.models import PromptSource
from sgrace.models.families.stable_diffusion import StableDiffusion

CHURCH = Concept(name="church")
SHORT = {
    "iterations": "4",
    "warm_up": "1",
    "attack_steps": "2",
    "batch": "2",
    "retain_batch": "3",
    "pool": "6",
    "n_retain": "3",
    "num_inference_steps": "4",
    "lr": "1e-3",
}


def adv_unlearn(preset: str | None = None, **settings: str) -> AdvUnlearn:
    return AdvUnlearn.preset(preset, "object", {**SHORT, **settings})


def weights(erasure: Erasure) -> list[torch.Tensor]:
    return list(erasure.tensors["text_encoder"].values())


@torch.no_grad()
def pool_of(model: StableDiffusion, prompts: list[str]) -> Pool:
    texts = Texts(model, ["", *prompts])
    return Pool.of(adv_unlearn().config, model, texts, prompts, 1000, torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_loss_is_its_formula(model: StableDiffusion) -> None:
    generator = torch.Generator().manual_seed(0)
    main = model.text.main
    tokens = main.tokenize(["church", "a photo of church", "dog", "tree", "boat"])
    latents = model.noise(5, generator)
    targets = model.noise(5, generator)
    timesteps = torch.tensor([20.0, 400, 990, 7, 650])
    embeddings = main.embed(tokens.ids) + torch.randn(5, main.length, main.width, generator=generator)
    source = PromptSource({"clip": tokens}, {"clip": embeddings})
    loss = adv_unlearn_loss(model, Batch(source, latents, timesteps, targets), 2, 0.3)
    assert (model.calls.denoiser_calls, model.calls.text_encoder_calls) == (1, 1)
    errors = []
    for i in range(5):
        rows = slice(i, i + 1)
        cond = model.encode_tokens(tokens[rows], embeddings[rows])
        output = model.denoiser(latents[rows], timesteps[i], cond.prompt_embeds).sample[0]
        errors.append(((output - targets[i]) ** 2).mean())
    expected = (errors[0] + errors[1]) / 2 + 0.3 * (errors[2] + errors[3] + errors[4]) / 3
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_targets_lie_on_the_other_side_of_the_empty_prompt(model: StableDiffusion) -> None:
    prompts = ["church", "a photo of dog"]
    pool = pool_of(model, prompts)
    assert pool.each == 3
    samples = pool.samples_of(torch.tensor([0, 1, 1, 0]), torch.Generator())
    assert samples.div(3, rounding_mode="floor").tolist() == [0, 1, 1, 0]
    for row, target in enumerate(pool.targets(model, 2.0)):
        latents = pool.latents[row : row + 1]
        timestep = pool.timesteps[row]
        own = model.denoiser(latents, timestep, model.encode([prompts[row // 3]]).prompt_embeds).sample[0]
        uncond = model.denoiser(latents, timestep, model.uncond().prompt_embeds).sample[0]
        torch.testing.assert_close(target, uncond - 2.0 * (own - uncond), rtol=1e-4, atol=1e-5)


def test_the_attack_moves_the_prefix_only_and_brings_the_concept_back(model: StableDiffusion) -> None:
    config = adv_unlearn(attack_steps="20", attack_lr="0.5", prefix="2").config
    pool = pool_of(model, ["church"])
    tokens = with_prefix(model, ["dog"], 2, count_words=False)  # the student's prompt says something else
    source = model.text.source(tokens, [model.text.main])
    moved = attacked(config, model, source, pool, torch.tensor([0]), torch.Generator().manual_seed(0))
    found = moved.embeddings["clip"]
    start = source.embeddings["clip"]
    assert set((found != start).any(-1).nonzero()[:, 1].tolist()) == {1, 2}

    @torch.no_grad()
    def error(embeddings: torch.Tensor) -> float:
        cond = model.encode_tokens(tokens, embeddings).expand(len(pool.latents))
        return (model.predict(pool.latents, pool.timesteps, cond) - pool.outputs).square().mean().item()

    assert error(found) < 0.9 * error(start)


def test_the_attack_does_not_depend_on_its_pieces(model: StableDiffusion) -> None:
    config = adv_unlearn(attack_steps="4", attack_lr="0.1").config
    pool = pool_of(model, ["church", "a photo of church"])
    tokens = with_prefix(model, ["dog", "tree", "boat"], 1, count_words=False)
    prompts = torch.tensor([0, 1, 1])

    def found(size: int) -> torch.Tensor:
        model.batch_size = size
        source = model.text.source(tokens, [model.text.main])
        moved = attacked(config, model, source, pool, prompts, torch.Generator().manual_seed(0))
        return moved.embeddings["clip"]

    whole = found(3)
    moved = (whole - model.text.main.embed(tokens.ids)).abs().max()
    torch.testing.assert_close(found(2), whole, rtol=0, atol=1e-2 * moved.item())


def test_a_prefix_stands_before_the_whole_prompt_or_as_many_tokens_as_it_has_words(
    model: StableDiffusion,
) -> None:
    tokenizer = model.text.main.tokenizer
    cat = model.text.main.content_tokens("cat dog")
    assert len(cat) == 4
    right = with_prefix(model, ["cat dog"], 1, count_words=False).ids.tolist()[0]
    counted = with_prefix(model, ["cat dog"], 1, count_words=True).ids.tolist()[0]
    assert right[:7] == [tokenizer.bos_token_id, 0, *cat, tokenizer.eos_token_id]
    assert counted[:6] == [tokenizer.bos_token_id, 0, cat[0], cat[1], cat[3], tokenizer.eos_token_id]
    same = [with_prefix(model, ["a dog"], 1, count_words=by).ids for by in (False, True)]
    assert same[0].equal(same[1])


def test_the_release_differs_from_the_paper(model: StableDiffusion, words: Knowledge) -> None:
    targets = [Target(Concept(name="cat"), words)]  # more tokens than words
    paper = adv_unlearn("paper-sd14-nudity", attack_steps="3").erase(model, targets)
    accumulated = adv_unlearn("paper-sd14-nudity", attack_steps="3", accumulate="1").erase(model, targets)
    released = adv_unlearn("as-released", attack_steps="3").erase(model, targets)
    for left, right in ((paper, accumulated), (accumulated, released)):
        assert any(not a.equal(b) for a, b in zip(weights(left), weights(right), strict=True))


def test_prompts_of_the_concept_and_of_the_rest(words: Knowledge) -> None:
    rng = random.Random(0)
    church = Target(CHURCH, words)
    assert concept_prompts(church, 0, rng) == [CHURCH.prompt]
    found = concept_prompts(church, 10, rng)
    assert len(found) == 10
    assert set(found) == {c.format(w) for c in words.contexts for w in ("church", "chapel")}
    retain = retain_prompts([church, Target(Concept(name="dog"), words)], 1000, rng)
    assert sorted(retain) == sorted(
        c.format(w) for c in words.unrelated_contexts for w in ("tree", "boat", "house")
    )
    assert len(retain_prompts([church], 3, rng)) == 3
    own_only = words.model_copy(update={"unrelated": ("dog",)})
    with pytest.raises(InputError, match="No unrelated words"):
        retain_prompts([Target(Concept(name="dog"), own_only)], 3, rng)


@pytest.mark.parametrize(("warm_up", "attacks"), [("0", 4), ("1", 3), ("9", 0)])
def test_it_makes_no_more_calls_than_it_needs(
    model: StableDiffusion, words: Knowledge, warm_up: str, attacks: int
) -> None:
    cost = adv_unlearn(warm_up=warm_up).erase(model, [Target(CHURCH, words)]).recipe.cost
    assert cost.text_encoder_calls == 1 + 4 + 2 * attacks
    # each prompt once, then the batches
    assert cost.text_encoder_rows == (1 + 3 + 1) + 4 * (2 + 3) + 2 * attacks * 2
    # two outputs for six samples, one for each of the retain samples, then the batches
    fixed = 2 * 6 + 4 + 4 * (2 + 3) + 2 * attacks * 2
    assert cost.denoiser_rows is not None
    assert fixed <= cost.denoiser_rows <= fixed + 2 * 3 * (6 + 4), (
        "a sample stops before its fourth guided step"
    )


def test_no_more_samples_are_made_than_are_used(model: StableDiffusion, words: Knowledge) -> None:
    cost = (
        adv_unlearn(warm_up="9", iterations="1", pool="5000")
        .erase(model, [Target(CHURCH, words)])
        .recipe.cost
    )
    assert cost.denoiser_rows is not None
    assert cost.denoiser_rows <= (2 + 4) * 2 * 3 + 2 * 2 + 4 + 5


def test_only_the_layers_and_the_last_norm_are_trained(model: StableDiffusion, words: Knowledge) -> None:
    erasure = adv_unlearn().erase(model, [Target(CHURCH, words)])
    before = dict(model.text.main.module.named_parameters())
    after = erasure.tensors["text_encoder"]
    moved = {name for name, value in before.items() if not value.equal(after[name])}
    assert moved
    assert not any("embeddings." in name for name in moved)
    assert any("final_layer_norm" in name for name in moved)
    trained = sum(value.numel() for name, value in before.items() if "embeddings." not in name)
    assert erasure.recipe.cost.trained_parameters == trained
    assert not any(p.requires_grad or p.grad is not None for p in model.denoiser.parameters())
