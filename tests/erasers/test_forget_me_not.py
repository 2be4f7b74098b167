"""Forget-Me-Not: attention maps against the layers, loss against the formula, positions, inversion, cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers._shared.student import Student
from sgrace.erasers._shared.textual_inversion import (
    WordPrompt,
    assemble,
    encode_learned,
    image_prompts,
    learn_words,
    taken_apart,
)
from sgrace.erasers.forget_me_not import (
    ForgetMeNot,
    TextEnd,
    attention_norm,
    concept_marks,
    with_learned_word,
)
from sgrace.knowledge import Knowledge
from sgrace.models import DiffusionModel
from sgrace.models.attention import attention_maps

from .made import target

SHORT = {"iterations": "3", "batch": "2", "n_images": "6", "num_inference_steps": "4", "inversion_steps": "0"}


def test_maps_are_what_the_layers_use(model: DiffusionModel) -> None:
    layers = [module for name, module in model.pipeline.unet.named_modules() if name.endswith(".attn2")]
    ran: list[tuple[Any, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _inputs, output: ran.append((layer, output)))
        for layer in layers
    ]
    cond = model.encode(["church", "a photo of dog"])
    latents = model.initial_noise([1, 2])
    timesteps = torch.tensor([300.0, 800.0])
    plain = model.predict(latents, timesteps, cond)
    with attention_maps(model) as maps:
        assert model.predict(latents, timesteps, cond).equal(plain), "looking changes nothing"
    for hook in hooks:
        hook.remove()
    assert len(maps) == len(layers)
    for (layer, output), attention in zip(ran[len(layers) :], maps, strict=True):
        assert attention.shape == (2, layer.heads, output.shape[1], model.text.main.length)
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
        values = layer.to_v(cond.prompt_embeds).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        again = layer.to_out[0]((attention @ values).transpose(1, 2).flatten(2))
        torch.testing.assert_close(again, output, atol=1e-5, rtol=1e-4)
    model.predict(latents, timesteps, cond)
    assert len(maps) == len(layers), "nothing is collected afterwards"


def test_the_loss_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((2, heads, places, 7)) for heads, places in ((2, 16), (4, 4))]
    marks = np.zeros((2, 7), dtype=bool)
    marks[0, [1, 4]] = True
    marks[1, [2]] = True
    norms = []
    for row in range(2):
        columns = np.concatenate([layer[row][:, :, marks[row]].ravel() for layer in maps])
        norms.append(np.linalg.norm(columns))
    found = attention_norm([torch.tensor(layer) for layer in maps], torch.tensor(marks))
    assert found.item() == pytest.approx(np.mean(norms))


def test_marks_are_the_words_tokens_and_the_end(model: DiffusionModel) -> None:
    prompts = [taken_apart(model, "a dog {}", "church", 0), taken_apart(model, "{}, a tree", "dog house", 0)]
    wanted: dict[TextEnd, list[set[int]]] = {
        "none": [{3}, {1, 2}],
        "first": [{3, 4}, {1, 2, 6}],
        "all": [set(range(3, 20)), {1, 2, *range(6, 20)}],
    }
    for text_end, rows in wanted.items():
        marks = concept_marks(model, prompts, text_end)
        assert [set(row.nonzero().flatten().tolist()) for row in marks] == rows
    assert concept_marks(model, [], "first").shape == (0, model.text.main.length)


def test_prompts_taken_apart_are_read_like_whole_ones(model: DiffusionModel, words: Knowledge) -> None:
    boat = Knowledge(source="test", related=("boat",), unrelated=("dog",), contexts=("{}", "{}, a picture"))
    targets = [target(words), target(boat, Concept(name="boat"))]
    prompts = image_prompts(model, targets, "related", 6, torch.Generator())
    assert [prompt.concept for prompt in prompts] == [0, 1] * 3
    main = model.text.main
    whole = main.tokenize([prompt.text for prompt in prompts])
    assert assemble(model.text.main, prompts).ids.equal(whole.ids)
    for prompt in prompts:
        assert prompt.before + prompt.word + prompt.after == main.content_tokens(prompt.text)
        named = [main.content_tokens(word) for word in (("church", "chapel"), ("boat",))[prompt.concept]]
        assert prompt.word in named


def test_a_concept_that_would_be_cut_is_told(model: DiffusionModel, words: Knowledge) -> None:
    long = words.model_copy(update={"contexts": ("dog " * 18 + "{}",)})
    with pytest.raises(InputError, match="longer than the model reads"):
        ForgetMeNot.preset(None, "object", SHORT).erase(model, [target(long)])


def learned_embeds(model: DiffusionModel, prompts: list[WordPrompt], steps: int, batch: int) -> torch.Tensor:
    """Prompt embeddings of the prompts with words learned in so many steps."""
    latents = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    start = model.text.main.embed(torch.tensor([prompts[0].word, prompts[1].word]))
    generator = torch.Generator().manual_seed(0)
    learned = learn_words(
        model,
        prompts,
        latents,
        {"clip": start},
        steps=steps,
        batch=batch,
        lr=1e-3,
        weight_decay=0.1,
        generator=generator,
    )
    assert learned["clip"].shape == start.shape
    return encode_learned(model, prompts, learned).prompt_embeds


def test_inversion_learns_the_words_of_each_concept_only(model: DiffusionModel) -> None:
    parts = (("a photo of {}", "church", 0), ("{}, a picture", "dog house", 1), ("{}", "church", 0))
    prompts = [with_learned_word(taken_apart(model, *part)) for part in parts]
    assert [len(prompt.word) for prompt in prompts] == [4] * 3
    assert prompts[1].word == model.text.main.content_tokens("dog house dog house")
    untouched = learned_embeds(model, prompts, 0, 2)
    with torch.no_grad():
        plain = model.encode_tokens(assemble(model.text.main, prompts)).prompt_embeds
    torch.testing.assert_close(untouched, plain)
    learned = learned_embeds(model, prompts, 4, 3)
    for row, prompt in enumerate(prompts):
        before = slice(prompt.span.start)  # the text encoder looks backwards only
        torch.testing.assert_close(learned[row, before], plain[row, before], atol=1e-5, rtol=1e-4)
        last = prompt.span.stop - 1
        assert (learned[row, last] - plain[row, last]).abs().max() > 1e-5


def test_training_lowers_the_attention(model: DiffusionModel, words: Knowledge) -> None:
    settings = {**SHORT, "iterations": "20", "lr": "1e-2", "weight_decay": "0", "site": "text_attention"}
    erasure = ForgetMeNot.preset(None, "object", settings).erase(model, [target(words)])
    prompts = [taken_apart(model, "a photo of {}", "church", 0)]
    cond = Texts(model, [prompts[0].text])([prompts[0].text])
    marks = concept_marks(model, prompts, "first")

    def attention(of: DiffusionModel) -> float:
        with attention_maps(of) as maps, torch.no_grad():
            of.predict(model.initial_noise([5]), torch.tensor([600.0]), cond)
        return attention_norm(maps, marks).item()

    assert attention(erasure.apply(model)) < 0.8 * attention(model)


@pytest.mark.parametrize("inversion", [0, 5])
def test_it_makes_no_more_calls_than_it_needs(
    model: DiffusionModel, words: Knowledge, inversion: int
) -> None:
    settings = {**SHORT, "inversion_steps": str(inversion)}
    cost = ForgetMeNot.preset(None, "object", settings).erase(model, [target(words)]).recipe.cost
    assert cost.denoiser_calls == 4 + 3 + inversion
    assert cost.denoiser_rows == 2 * 6 * 4 + 2 * 3 + 2 * inversion
    assert cost.text_encoder_calls == 1 + (inversion + 1 if inversion else 0)
    assert cost.text_encoder_rows == 1 + len(words.contexts) + (2 * inversion + 6 if inversion else 0)


def test_only_the_site_moves(model: DiffusionModel, words: Knowledge) -> None:
    eraser = ForgetMeNot.preset("cross-attention", "object", {**SHORT, "lr": "1e-3"})
    tensors = eraser.erase(model, [target(words)]).tensors["unet"]
    assert list(tensors) == Student.of(model, "text_attention").names
    moved = [name for name, value in tensors.items() if not value.equal(model.denoiser.get_parameter(name))]
    assert any("to_q" in name for name in moved)
    assert any("to_k" in name for name in moved)
