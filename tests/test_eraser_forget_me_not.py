"""Forget-Me-Not: attention maps against the layers that use them, its loss against the formula, positions, inversion, cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.erasers._shared.generated_data import Texts
from sgrace.erasers._shared.student import Student
from sgrace.erasers._shared.textual_inversion import Prompt, picture_prompts
from sgrace.erasers.forget_me_not import ForgetMeNot, attention_norm, concept_marks, learn_words, with_learned_word
from sgrace.knowledge import Knowledge
from sgrace.models import StableDiffusion
from sgrace.models.attention import attention_maps

CHURCH = Concept(name="church")
SHORT = {"iterations": "3", "batch": "2", "n_pictures": "6", "num_inference_steps": "4", "inversion_steps": "0"}


def prompt_of(model: StableDiffusion, before: str, word: str, after: str, concept: int = 0) -> Prompt:
    return Prompt(before + word + after, concept, *(model.content_tokens(part) for part in (before, word, after)))


def test_maps_are_what_the_layers_use(model: StableDiffusion) -> None:
    unet = model.pipeline.unet
    layers = [module for name, module in unet.named_modules() if name.endswith(".attn2")]
    ran: list[tuple[torch.nn.Module, torch.Tensor]] = []
    hooks = [layer.register_forward_hook(lambda layer, _inputs, output: ran.append((layer, output))) for layer in layers]
    states = model.encode(model.tokenize(["church", "a photo of dog"]).ids)
    latents, timesteps = model.initial_noise([1, 2]), torch.tensor([300, 800])
    plain = model.predict(latents, timesteps, states)
    with attention_maps(unet) as maps:
        assert model.predict(latents, timesteps, states).equal(plain), "looking changes nothing"
    for hook in hooks:
        hook.remove()
    assert len(maps) == len(layers)
    for (layer, output), attention in zip(ran[len(layers) :], maps, strict=True):
        assert attention.shape == (2, layer.heads, output.shape[1], model.text_length)
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
        values = layer.to_v(states).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        torch.testing.assert_close(layer.to_out[0]((attention @ values).transpose(1, 2).flatten(2)), output, atol=1e-5, rtol=1e-4)
    model.predict(latents, timesteps, states)
    assert len(maps) == len(layers), "nothing is collected afterwards"


def test_the_loss_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((2, heads, pixels, 7)) for heads, pixels in ((2, 16), (4, 4))]
    marks = np.zeros((2, 7), dtype=bool)
    marks[0, [1, 4]] = marks[1, [2]] = True
    norms = []
    for row in range(2):
        columns = np.concatenate([layer[row][:, :, marks[row]].ravel() for layer in maps])
        norms.append(np.linalg.norm(columns))
    found = attention_norm([torch.tensor(layer) for layer in maps], torch.tensor(marks))
    assert found.item() == pytest.approx(np.mean(norms))


def test_marks_are_the_words_tokens_and_the_end(model: StableDiffusion) -> None:
    prompts = [prompt_of(model, "a dog ", "church", ""), prompt_of(model, "", "dog house", ", a tree")]
    wanted = {"none": [{3}, {1, 2}], "first": [{3, 4}, {1, 2, 6}], "all": [set(range(3, 20)), {1, 2, *range(6, 20)}]}
    for text_end, rows in wanted.items():
        marks = concept_marks(model, prompts, text_end)
        assert [set(row.nonzero().flatten().tolist()) for row in marks] == rows


def test_prompts_taken_apart_are_read_like_whole_ones(model: StableDiffusion, words: Knowledge) -> None:
    boat = Knowledge(source="test", related=("boat",), unrelated=("dog",), contexts=("{}", "{}, a picture"))
    prompts = picture_prompts(model, [CHURCH, Concept(name="boat")], [words, boat], "related", 6, torch.Generator())
    assert [prompt.concept for prompt in prompts] == [0, 1] * 3
    for prompt in prompts:
        assert prompt.before + prompt.word + prompt.after == model.content_tokens(prompt.text)
        named = [model.content_tokens(word) for word in (("church", "chapel"), ("boat",))[prompt.concept]]
        assert prompt.word in named


def test_a_concept_that_would_be_cut_is_told(model: StableDiffusion, words: Knowledge) -> None:
    long = words.model_copy(update={"contexts": ("dog " * 18 + "{}",)})
    with pytest.raises(InputError, match="longer than the model reads"):
        ForgetMeNot.preset(None, "object", SHORT).erase(model, [CHURCH], [long])


def test_inversion_learns_the_words_of_each_concept_only(model: StableDiffusion) -> None:
    prompts = [
        with_learned_word(prompt_of(model, *parts))
        for parts in (("a photo of ", "church", "", 0), ("", "dog house", ", a picture", 1), ("", "church", "", 0))
    ]
    assert [len(prompt.word) for prompt in prompts] == [4] * 3
    assert prompts[1].word == model.content_tokens("dog house dog house")
    latents = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    untouched = learn_words(model, prompts, latents, 0, 2, torch.Generator().manual_seed(0))
    plain = model.encode(model.assemble([p.before + p.word + p.after for p in prompts]).ids)
    torch.testing.assert_close(untouched, plain)
    learnt = learn_words(model, prompts, latents, 4, 3, torch.Generator().manual_seed(0))
    for row, prompt in enumerate(prompts):
        same = learnt[row, : prompt.span.start], plain[row, : prompt.span.start]
        torch.testing.assert_close(*same, atol=1e-5, rtol=1e-4)  # the text encoder looks backwards only
        assert (learnt[row, prompt.span.stop - 1] - plain[row, prompt.span.stop - 1]).abs().max() > 1e-5


def test_training_lowers_the_attention(model: StableDiffusion, words: Knowledge) -> None:
    settings = {**SHORT, "iterations": "20", "lr": "1e-2", "weight_decay": "0", "group": "cross_attention"}
    safe = ForgetMeNot.preset(None, "object", settings).erase(model, [CHURCH], [words]).apply(model)
    prompts = [prompt_of(model, "a photo of ", "church", "")]
    states, marks = Texts(model, [prompts[0].text])([prompts[0].text]), concept_marks(model, prompts, "first")

    def attention(of: StableDiffusion) -> float:
        with attention_maps(of.pipeline.unet) as maps, torch.no_grad():
            of.predict(model.initial_noise([5]), torch.tensor([600]), states)
        return attention_norm(maps, marks).item()

    assert attention(safe) < 0.8 * attention(model)


@pytest.mark.parametrize("inversion", [0, 5])
def test_it_makes_no_more_calls_than_it_needs(model: StableDiffusion, words: Knowledge, inversion: int) -> None:
    cost = ForgetMeNot.preset(None, "object", {**SHORT, "inversion_steps": str(inversion)}).erase(model, [CHURCH], [words]).recipe["cost"]
    assert cost["unet_calls"] == 4 + 3 + inversion
    assert cost["unet_rows"] == 2 * 6 * 4 + 2 * 3 + 2 * inversion
    assert cost["text_encoder_calls"] == 1 + (inversion + 1 if inversion else 0)
    assert cost["text_encoder_rows"] == 1 + len(words.contexts) + (2 * inversion + 6 if inversion else 0)


def test_only_the_group_moves(model: StableDiffusion, words: Knowledge) -> None:
    erasure = ForgetMeNot.preset("cross-attention", "object", {**SHORT, "lr": "1e-3"}).erase(model, [CHURCH], [words])
    assert list(erasure.unet) == Student.of(model, "cross_attention").names
    moved = [name for name, value in erasure.unet.items() if not value.equal(model.pipeline.unet.get_parameter(name))]
    assert any("to_q" in name for name in moved)
    assert any("to_k" in name for name in moved)
