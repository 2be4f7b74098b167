"""Text encoders: tokens, embeddings in their place, and several encoders that read the same text."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sgrace._util.errors import InputError
from sgrace.models import DiffusionModel, TextEncoder, TextStack

from ..conftest import WORDS, tiny_tokenizer
from .made import images, tiny_model


@pytest.fixture(scope="module")
def shared() -> DiffusionModel:
    return tiny_model()


def test_embeddings_in_place_of_ids_give_the_same_and_a_gradient(model: DiffusionModel) -> None:
    main = model.text.main
    tokens = main.tokenize(["a photo of church"])
    embeddings = main.embed(tokens.ids).clone().requires_grad_(True)
    cond = model.encode_tokens(tokens, embeddings)
    plain = model.encode_tokens(tokens)
    torch.testing.assert_close(cond.prompt_embeds, plain.prompt_embeds)
    torch.testing.assert_close(model.encode(["a photo of church"]).prompt_embeds, plain.prompt_embeds)
    # a sum over all features would not depend on the embeddings
    (gradient,) = torch.autograd.grad(cond.prompt_embeds[..., 0].sum(), embeddings)
    assert gradient.abs().sum() > 0
    again = model.encode_tokens(tokens).prompt_embeds
    torch.testing.assert_close(again, plain.prompt_embeds, msg="embeddings do not outlive their call")


def test_other_embeddings_are_what_is_read(model: DiffusionModel) -> None:
    main = model.text.main
    church = main.tokenize(["church"])
    dog = main.tokenize(["dog"])
    found = model.encode_tokens(church, main.embed(dog.ids))
    torch.testing.assert_close(found.prompt_embeds, model.encode(["dog"]).prompt_embeds)
    assert found.source is not None
    assert found.source.embeddings[main.name].equal(main.embed(dog.ids))


def test_the_network_is_as_it_was_after_an_error(model: DiffusionModel) -> None:
    main = model.text.main
    tokens = main.tokenize(["church"])
    before = model.encode_tokens(tokens).prompt_embeds
    with pytest.raises(RuntimeError):
        model.encode_tokens(tokens, main.embed(tokens.ids)[:, :, :5].contiguous())
    assert model.encode_tokens(tokens).prompt_embeds.equal(before)


def test_the_end_of_text_is_the_first_end_token(shared: DiffusionModel) -> None:
    main = shared.text.main
    texts = ["church", "a photo of dog", ""]
    tokens = main.tokenize(texts)
    assert tokens.end.tolist() == [row.index(main.end_id) for row in tokens.ids.tolist()]
    assert tokens.end[2] == 1
    assembled = main.assemble([main.content_tokens(text) for text in texts])
    assert assembled.ids.equal(tokens.ids)
    assert assembled.end.equal(tokens.end)


def test_content_that_is_too_long_keeps_its_beginning(shared: DiffusionModel) -> None:
    main = shared.text.main
    content = main.content_tokens("dog " * 50)
    tokens = main.assemble([content])
    assert tokens.ids.shape == (1, main.length)
    assert tokens.end.item() == main.length - 1
    assert tokens.ids[0, 1:-1].tolist() == content[: main.room]
    assert main.tokenize(["dog " * 50]).ids.equal(tokens.ids)


@given(
    st.lists(st.lists(st.sampled_from([w for w in WORDS if w != ","]), max_size=12), min_size=1, max_size=4)
)
@settings(max_examples=25, deadline=None)
def test_tokens_of_a_text_are_its_text(shared: DiffusionModel, texts: list[list[str]]) -> None:
    main = shared.text.main
    plain = [" ".join(words) for words in texts]
    tokens = main.tokenize(plain)
    for text, ids, end in zip(plain, tokens.ids.tolist(), tokens.end.tolist(), strict=True):
        content = main.content_tokens(text)
        assert ids[1:end] == content[: main.room]
        assert main.decode(content).strip() == text


def longer(tokenizer: CLIPTokenizer) -> CLIPTokenizer:
    """The tokenizer with one token more than the embedding table."""
    tokenizer.add_tokens(["<extra>"])
    return tokenizer


def test_ordinary_tokens_are_those_of_the_table() -> None:
    model = tiny_model()
    main = model.text.main
    size = main.table.num_embeddings
    before = main.ordinary_tokens()
    longer(main.tokenizer)
    assert len(main.tokenizer) == size + 1
    assert main.ordinary_tokens().equal(before)
    assert before.tolist() == [i for i in range(size) if i not in main.special_ids]
    assert set(main.random_tokens(2000, torch.Generator().manual_seed(0))) == set(before.tolist())
    assert main.random_tokens(0, torch.Generator()) == []


def test_a_token_without_an_embedding_is_told() -> None:
    model = tiny_model()
    longer(model.text.main.tokenizer)
    assert images(model).isfinite().all()
    for read in (model.text.main.tokenize, model.encode):
        with pytest.raises(InputError, match=r"tokenizer of text_encoder .* do not belong together"):
            read(["a photo of <extra>"])
    with pytest.raises(InputError, match="do not belong together"):
        model.text.main.assemble([[len(model.text.main.tokenizer) - 1]])


def test_trainable_parameters(shared: DiffusionModel) -> None:
    main = shared.text.main
    every = main.trainable()
    assert set(dict(main.module.named_parameters())) - set(every) == {
        name for name, _ in main.module.named_parameters() if "embedding" in name
    }
    first = main.trainable(1)
    assert first
    assert all("layers.0." in name for name in first)
    assert set(first) < set(main.trainable(2)) < set(every)


# -- several encoders ----------------------------------------------------------------------------------------


def encoder(name: str, tokenizer: CLIPTokenizer, length: int) -> TextEncoder:
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=length,
        eos_token_id=tokenizer.eos_token_id,
    )
    return TextEncoder(name, f"text_{name}", CLIPTextModel(config), tokenizer)


def other_tokenizer() -> CLIPTokenizer:
    """Letters and the two ends in another order, and no word of its own.

    The same text has other ids, and more of them.
    """
    letters = [chr(c) for c in range(ord("z"), ord("a") - 1, -1)]
    vocab = ["<|endoftext|>", "<|startoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    ids = {token: i for i, token in enumerate(vocab)}
    return CLIPTokenizer(vocab=ids, merges=[], model_max_length=30)


def test_encoders_of_one_vocabulary_follow_token_by_token() -> None:
    stack = TextStack([encoder("first", tiny_tokenizer(), 20), encoder("second", tiny_tokenizer(), 12)])
    assert stack.main is stack["first"]
    assert [each.name for each in stack] == ["first", "second"]
    # a content that no text gives: single letters in the middle of words
    content = [*stack.main.content_tokens("a photo of")[:2], 3, 4]
    rows = stack.follow(stack.main.assemble([content, [5]]))
    assert rows["first"].ids.shape == (2, 20)
    assert rows["second"].ids.shape == (2, 12)
    for name in ("first", "second"):
        ids = rows[name].ids[0].tolist()
        assert ids[1 : rows[name].end[0]] == content
        assert rows[name].end.tolist() == [len(content) + 1, 2]


def test_encoders_of_another_vocabulary_follow_by_text() -> None:
    stack = TextStack([encoder("first", tiny_tokenizer(), 20), encoder("second", other_tokenizer(), 30)])
    tokens = stack.main.tokenize(["a dog", "church"])
    rows = stack.follow(tokens)
    assert rows["first"].ids.equal(tokens.ids)
    assert rows["second"].ids.equal(stack["second"].tokenize(["a dog", "church"]).ids)
    assert not rows["second"].ids[:, :20].equal(tokens.ids)
    read = stack["second"].decode(rows["second"].ids[1, 1 : rows["second"].end[1]].tolist())
    assert read.strip() == "church"
    both = stack.tokenize(["a dog", "church"])
    assert both["second"].ids.equal(rows["second"].ids)


def test_networks_are_replaced_by_component() -> None:
    stack = TextStack([encoder("first", tiny_tokenizer(), 20), encoder("second", tiny_tokenizer(), 12)])
    network = encoder("x", tiny_tokenizer(), 12).module
    changed = stack.with_modules({"text_second": network})
    assert changed["second"].module is network
    assert changed["first"].module is stack["first"].module
    assert stack["second"].module is not network
    projected = stack.with_projection(torch.ones(3, 8))
    assert projected.main.projection is not None
    assert projected["second"].projection is None
