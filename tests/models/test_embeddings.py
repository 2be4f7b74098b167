"""Words that textual inversion learned, in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

import sgrace
from sgrace._util.errors import InputError

from ..conftest import tiny_pipeline
from ..families import PIPELINES, drawn

WIDTH = 24
PROMPTS = ["a photo of <cat>", "dog"]
SETTINGS: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 2.0}


def load(source: Any, **options: Any) -> Any:
    model = sgrace.load_model(source, device="cpu", **options)
    model.set_progress_bar_config(disable=True)
    return model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


def vectors(n: int, width: int = WIDTH) -> torch.Tensor:
    return 5 * torch.randn(n, width, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("n", [1, 3])
def test_it_draws_as_the_pipeline_that_learned_the_word(plain: Path, tmp_path: Path, n: int) -> None:
    save_file({"<cat>": vectors(n)}, tmp_path / "learned_embeds.safetensors")
    model = load(plain, embeddings=[tmp_path])
    pipeline = tiny_pipeline()
    pipeline.load_textual_inversion(tmp_path / "learned_embeds.safetensors")
    wanted = drawn(pipeline, model, PROMPTS, [1, 2], **SETTINGS)
    found = model.generate(PROMPTS, [1, 2], **SETTINGS)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    without = load(plain).generate(PROMPTS, [1, 2], **SETTINGS)
    assert not found[0].equal(without[0])
    torch.testing.assert_close(found[1], without[1], atol=1e-5, rtol=0)
    # what was saved knows the word too
    model.pipeline.save_pretrained(tmp_path / "saved")
    saved = StableDiffusionPipeline.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(drawn(saved, model, PROMPTS, [1, 2], **SETTINGS), wanted, atol=1e-5, rtol=0)


def test_a_word_of_several_vectors_stays_one_word(plain: Path, tmp_path: Path) -> None:
    save_file({"<cat>": vectors(3)}, tmp_path / "word.safetensors")
    encoder = load(plain, embeddings=[tmp_path / "word.safetensors"]).text.main
    content = encoder.contents(encoder.tokenize(["a <cat>, dog"]))[0]
    assert encoder.tokenizer.convert_ids_to_tokens(content)[1:4] == ["<cat>", "<cat>_1", "<cat>_2"]
    assert encoder.content_tokens("a <cat>, dog") == content
    again = encoder.content_tokens("<cat> <cat>_1 <cat>_2")
    assert again == encoder.content_tokens("<cat>"), "what is written out is not written out again"


@pytest.mark.parametrize("key", ["emb_params", "<cat>"])
def test_a_file_may_be_told_the_word(plain: Path, tmp_path: Path, key: str) -> None:
    save_file({key: vectors(1)}, tmp_path / "felis.safetensors")
    told = load(plain, embeddings=[f"{tmp_path / 'felis.safetensors'}=<told>"])
    assert "<told>" in told.text.main.tokenizer.get_vocab()
    own = load(plain, embeddings=[tmp_path / "felis.safetensors"])
    assert ("felis" if key == "emb_params" else key) in own.text.main.tokenizer.get_added_vocab()
    assert own.text.main.embed(torch.tensor([own.text.main.tokenizer.vocab_size])).equal(vectors(1))


def test_two_text_encoders_learn_one_word(tmp_path: Path) -> None:
    pipeline = PIPELINES["stable_diffusion_xl"]()
    pipeline.save_pretrained(tmp_path / "pipeline")
    both = {"clip_l": vectors(2, 24), "clip_g": vectors(2, 16)}
    save_file(both, tmp_path / "cat.safetensors")
    model = load(tmp_path / "pipeline", embeddings=[f"{tmp_path / 'cat.safetensors'}=<cat>"])
    for suffix, name in (("", "clip_l"), ("_2", "clip_g")):
        pipeline.load_textual_inversion(
            {"<cat>": both[name]},
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
        )
    wanted = drawn(pipeline, model, PROMPTS, [1, 2], **SETTINGS)
    torch.testing.assert_close(model.generate(PROMPTS, [1, 2], **SETTINGS), wanted, atol=1e-5, rtol=0)


def test_an_erased_model_keeps_the_word(plain: Path, tmp_path: Path) -> None:
    save_file({"<cat>": vectors(1)}, tmp_path / "word.safetensors")
    model = load(plain, embeddings=[tmp_path / "word.safetensors"])
    words = sgrace.Knowledge(source="test", related=(), unrelated=("dog",), replacements=("house",))
    erasure = sgrace.erase(model, "church", method="uce", words=words)
    assert erasure.recipe.base.embeddings == (str(tmp_path / "word.safetensors"),)
    assert erasure.apply(model).text.main.content_tokens("<cat>") == model.text.main.content_tokens("<cat>")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"<cat>": torch.zeros(1, 7)}, r"holds '<cat>' of the shape \[1, 7\], .* are clip 24"),
        ({"a": torch.zeros(1, 24), "b": torch.zeros(1, 24)}, "no learned word for this model"),
        ({"dog</w>": torch.zeros(1, 24)}, "already in tokenizer vocabulary"),
    ],
)
def test_what_is_no_word_of_the_model_is_told(
    plain: Path, tmp_path: Path, state: dict[str, torch.Tensor], told: str
) -> None:
    save_file(state, tmp_path / "word.safetensors")
    with pytest.raises(InputError, match=told):
        load(plain, embeddings=[tmp_path / "word.safetensors"])


def test_a_family_that_takes_none_says_so(tmp_path: Path) -> None:
    PIPELINES["z_image"]().save_pretrained(tmp_path / "pipeline")
    save_file({"<cat>": vectors(1)}, tmp_path / "word.safetensors")
    with pytest.raises(InputError, match="z_image take no textual inversion"):
        load(tmp_path / "pipeline", embeddings=[tmp_path / "word.safetensors"])
