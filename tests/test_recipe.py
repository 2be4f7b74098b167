"""The whole training recipe on random drawings, two steps a stage: the parts must fit, not draw well."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from sgrace._util.errors import InputError
from sgrace.erasure import Erasure
from sgrace.erasure.int8 import read_weights
from sgrace.models.loading import load_model_from
from sgrace.testbeds import emoji
from sgrace.testbeds.emoji import Judge, vocabulary
from sgrace.testbeds.emoji.clip import Clip
from sgrace.testbeds.emoji.training import denoiser, training_data
from sgrace.testbeds.emoji.training.art import SOURCES, Art
from sgrace.testbeds.emoji.training.export import export
from sgrace.testbeds.emoji.training.presets import PRESETS
from sgrace.testbeds.emoji.training.recipe import STAGES, Recipe
from sgrace.testbeds.emoji_narrow import denoiser_path


@pytest.fixture
def random_art(monkeypatch: pytest.MonkeyPatch) -> None:
    unicode_name = {alias: name for name, alias in vocabulary.ALIASES.items()}
    table = {unicode_name.get(name, name): words for name, words in emoji.keyword_table().items()}
    names = [*table, "abacus", "adhesive bandage"]
    concepts = [{"name": name, "keywords": list(table.get(name, ("thing",)))} for name in names]
    concept = np.repeat(np.arange(len(names)), len(SOURCES))
    source = np.tile(np.arange(len(SOURCES)), len(names))
    images = np.random.default_rng(0).integers(0, 256, (len(concept), 64, 64, 3), dtype=np.uint8)
    art = Art(images, concept, source, concepts)
    monkeypatch.setattr(training_data, "load_art", lambda _cache, _groups: art)
    monkeypatch.setattr(denoiser, "CAPTIONS_PER_PICTURE", 1)
    monkeypatch.setattr(denoiser, "VIEWS_PER_PICTURE", 1)
    # of eight in the place of up to 128: every kind of picture is still in every batch
    for name in ("cpu", "narrow"):
        own = PRESETS[name]
        stages = [stage for stage in STAGES if hasattr(own, stage)]
        small: dict[str, Any] = {stage: replace(getattr(own, stage), batch=8) for stage in stages}
        monkeypatch.setitem(PRESETS, name, replace(own, **small))


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seventh picture for the generator, in all of its styles: most of the time goes into them."""
    whole = vars(training_data.EmojiData)["generator_pictures"].func  # of a cached property
    few = property(lambda data: whole(data)[::7])
    monkeypatch.setattr(training_data.EmojiData, "generator_pictures", few)


@pytest.mark.usefixtures("random_art", "few_pictures")
def test_all_stages_export_a_pipeline_that_diffusers_loads(tmp_path: Path) -> None:
    Recipe(tmp_path / "work", "cpu", seed=0, steps=2).run(STAGES)
    export(Recipe(tmp_path / "work", "cpu", seed=0), tmp_path / "model")
    assert {p.name for p in (tmp_path / "model").iterdir()} >= {
        "judge.safetensors",
        "classes.json",
        "LICENSES.md",
        "training.jsonl",
        "unet",
    }
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    drawn = pipeline("a flat picture of fish", num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)
    assert np.isfinite(drawn).all()
    Judge.from_pretrained(tmp_path / "model")
    assert Clip.from_pretrained(tmp_path / "model").texts(["fish"]).norm().item() == pytest.approx(
        1, abs=1e-4
    )

    # stages that are named go on from the exported weights, the others count as finished
    again = Recipe(tmp_path / "again", "cpu", seed=1, steps=1)
    again.adopt(tmp_path / "model", retrain=("denoiser",))
    again.run(("denoiser",))
    export(again, tmp_path / "second")
    first = load_model_from(tmp_path / "model").components
    second = load_model_from(tmp_path / "second").components
    for part, same in (("text_encoder", True), ("vae", True), ("unet", False)):
        pairs = zip(first[part].state_dict().values(), second[part].state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same, part
    pairs = zip(first["unet"].parameters(), second["unet"].parameters(), strict=True)
    moved = [(a - b).abs().max().item() for a, b in pairs]
    assert max(moved) < 0.01, "one step from the given weights, not from new ones"


@pytest.mark.usefixtures("random_art")
@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens where there is none")
def test_the_gpu_preset_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a CUDA device"):
        Recipe(tmp_path, "gpu", seed=0)


@pytest.mark.usefixtures("random_art")
@pytest.mark.parametrize("name", ["weapon", "church", "line art"])
def test_a_concept_left_out_is_in_no_picture_and_no_caption(tmp_path: Path, name: str) -> None:
    concept, data, whole = (
        emoji.resolve(name),
        training_data.EmojiData(tmp_path, name),
        training_data.EmojiData(tmp_path),
    )
    pictures = torch.cat([data.pictures(built_in=True), data.pictures(built_in=False)]).tolist()
    rng = random.Random(0)
    captions = [data.caption(i, rng) for i in pictures for _ in range(8)]
    if concept.style is None:
        assert not {data.names[int(data.label[i])] for i in pictures} & set(concept.targets)
        words = {name, *concept.targets, *concept.train_words, *concept.held_out}
        assert not [c for c in captions if c.word in words]
        kept = len(whole.generator_pictures) - len(vocabulary.STYLES) * len(concept.targets)
    else:
        assert vocabulary.STYLES.index(name) not in data.style[pictures].tolist()
        assert not [c for c in captions if any(phrase in c.text for phrase in vocabulary.STYLE_PHRASES[name])]
        kept = len(whole.generator_pictures) * 3 // 4
    assert len(data.generator_pictures) == kept, "nothing else is lost"
    assert whole.visible.all()


@pytest.mark.usefixtures("random_art", "few_pictures")
def test_a_recipe_that_leaves_a_concept_out_takes_no_network_that_has_seen_it(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path, "cpu", seed=0, without="weapon")
    recipe.adopt(emoji.path())
    assert {stage for stage in STAGES if (tmp_path / stage).exists()} == {"tokenizer", "autoencoder", "judge"}
    with pytest.raises(InputError, match="holds a training without weapon, not without nothing"):
        Recipe(tmp_path, "cpu", seed=0)

    Recipe(tmp_path, "cpu", seed=0, steps=1, without="weapon").run(("clip", "denoiser"))
    export(Recipe.found_in(tmp_path), tmp_path / "gold")
    gold = Erasure.from_pretrained(tmp_path / "gold")
    model = load_model_from(emoji.path())
    assert [concept.model_dump() for concept in gold.recipe.concepts] == [
        {"name": "weapon", "kind": "harmful"}
    ]
    assert [stage["stage"] for stage in gold.recipe.details["stages"]] == ["clip", "denoiser"]
    retrained = gold.apply(model)
    for part in ("text_encoder", "unet"):
        old = dict(model.components[part].named_parameters())
        new = dict(retrained.components[part].named_parameters())
        assert not [name for name in old if old[name].ndim > 1 and torch.equal(old[name], new[name])], part
        assert {value.dtype for value in new.values()} == {torch.float32}


@pytest.mark.usefixtures("random_art", "few_pictures")
def test_a_denoiser_of_other_widths_is_trained_anew_and_exported_alone(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path / "work", "narrow", 3, steps=1)
    recipe.adopt(emoji.path(), retrain=("denoiser",))
    recipe.run(("denoiser",))
    export(recipe, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json",
        "training.jsonl",
        "unet.safetensors",
    }
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["block_out_channels"] == [48, 96, 144]
    known = json.loads((denoiser_path() / "config.json").read_text())
    version = "_diffusers_version"
    assert {**config, version: None} == {**known, version: None}, "as the one in the package"
    assert set(read_weights(tmp_path / "out" / "unet.safetensors")) == set(
        read_weights(denoiser_path() / "unet.safetensors")
    )
