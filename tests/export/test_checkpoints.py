"""Checkpoints in the original layout, alone and in the folders of ComfyUI and AUTOMATIC1111."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import sgrace
from sgrace._util.errors import InputError
from sgrace.models.families.stable_diffusion import VERSION_1, VERSION_2
from sgrace.models.families.stable_diffusion_xl import BASE

from ..cli.conftest import assert_refused
from ..cli.conftest import sgrace as run
from ..conftest import tiny_pipeline
from ..erasure.made import of_denoiser
from ..families import PIPELINES, wrapped
from .conftest import Maker, loaded, same_images, small


@pytest.mark.parametrize("family", ["stable_diffusion", "stable_diffusion_xl"])
def test_the_public_loader_draws_the_same(safe: Maker, tmp_path: Path, family: str) -> None:
    own = safe(family, "text_encoder", "unet")
    file = tmp_path / "safe.safetensors"
    done = run("export", own.folder, "--format", "single-file", "-o", file)
    assert (done.exit_code, done.stdout) == (0, f"single-file: {file}\n"), done.output
    kind = getattr(diffusers, type(own.model.pipeline).__name__)
    same_images(small(wrapped(kind.from_single_file(file, config=str(own.base)))), own.model)
    same_images(loaded(file, config=own.base), own.model)
    for form, place in (("a1111", "Stable-diffusion"), ("comfyui", "checkpoints")):
        own.erasure.export(tmp_path / form, form, base=loaded(own.base))
        again = tmp_path / form / "models" / place / "without-church.safetensors"
        assert load_file(again).keys() == load_file(file).keys()


def version_2() -> Any:
    """A pipeline with a text encoder as wide as that of Stable Diffusion 2, which predicts v."""
    pipeline = tiny_pipeline("v_prediction")
    config = pipeline.text_encoder.config.to_dict() | {"hidden_size": 1024}
    unet = dict(pipeline.unet.config) | {"cross_attention_dim": 1024}
    pipeline.register_modules(
        text_encoder=CLIPTextModel(CLIPTextConfig(**config)),
        unet=diffusers.UNet2DConditionModel.from_config(unet),
    )
    return pipeline


def test_version_2_has_the_layout_of_open_clip(tmp_path: Path) -> None:
    version_2().save_pretrained(tmp_path / "base")
    base = loaded(tmp_path / "base")
    made = of_denoiser(base)
    made.export(tmp_path / "safe.safetensors", "single-file", base=base)
    same_images(loaded(tmp_path / "safe.safetensors", config=tmp_path / "base"), made.apply(base))
    names = load_file(tmp_path / "safe.safetensors").keys()
    assert "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight" in names
    assert "v_pred" in names
    assert "ztsnr" not in names


# -- the published lists of names ----------------------------------------------------------------------------

#: Tensors in published files by their beginnings, without positions and the scale of CLIP's logits, and names
#: by which ComfyUI and AUTOMATIC1111 tell what a file holds.
PUBLISHED: dict[str, tuple[Any, dict[str, int], set[str]]] = {
    "1.5": (
        VERSION_1,
        {"unet": 686, "vae": 248, "text_encoder": 196},
        {
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
            "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias",
            "model.diffusion_model.middle_block.1.proj_in.weight",
            "first_stage_model.decoder.up.3.upsample.conv.weight",
            "first_stage_model.encoder.mid.attn_1.q.weight",
            "cond_stage_model.transformer.text_model.encoder.layers.11.self_attn.k_proj.weight",
        },
    ),
    "2.1": (
        VERSION_2,
        {"unet": 686, "vae": 248, "text_encoder": 23 * 12 + 4},
        {
            "cond_stage_model.model.transformer.resblocks.22.attn.out_proj.weight",
            "cond_stage_model.model.positional_embedding",
            "cond_stage_model.model.ln_final.weight",
        },
    ),
    "XL": (
        BASE,
        {"unet": 1680, "vae": 248, "text_encoder": 196, "text_encoder_2": 389},
        {
            "model.diffusion_model.label_emb.0.0.weight",
            "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight",
            "model.diffusion_model.output_blocks.5.2.conv.weight",
            "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
            "conditioner.embedders.1.model.transformer.resblocks.31.mlp.c_proj.bias",
            "conditioner.embedders.1.model.text_projection",
        },
    ),
}


@pytest.mark.parametrize("version", PUBLISHED)
def test_names_are_those_of_published_files(version: str) -> None:
    single, counts, anchors = PUBLISHED[version]
    layouts = wrapped(_skeleton(single)).original_layouts()
    assert {component: len(layout) for component, layout in layouts.items()} == counts
    assert anchors <= {name for layout in layouts.values() for name in layout}


def _skeleton(single: Any) -> Any:
    """A pipeline of the published sizes without values."""
    import transformers  # noqa: PLC0415

    networks = {}
    for name, config in single.networks.items():
        given = dict(config)
        kind = given.pop("_class_name")
        with torch.device("meta"):
            if kind.startswith("CLIP"):
                networks[name] = getattr(transformers, kind)(CLIPTextConfig(**given))
            else:
                networks[name] = getattr(diffusers, kind).from_config(given)
    scheduler = getattr(diffusers, single.scheduler["_class_name"]).from_config(dict(single.scheduler))
    small_ones = PIPELINES["stable_diffusion_xl" if "text_encoder_2" in networks else "stable_diffusion"]()
    tokenizers = {name: getattr(small_ones, name) for name in single.tokenizers}
    own = {**networks, **tokenizers, "scheduler": scheduler}
    if "text_encoder_2" in networks:
        return diffusers.StableDiffusionXLPipeline(**own)
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(**own, **extras)


# -- families in several files -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["stable_diffusion_3", "z_image"])
def test_comfyui_gets_the_networks_apart(safe: Maker, tmp_path: Path, family: str) -> None:
    own = safe(family)
    base = loaded(own.base)
    own.erasure.export(tmp_path / "comfyui", "comfyui", base=base)
    models = tmp_path / "comfyui" / "models"
    texts = {
        encoder.component: models / "text_encoders" / f"without-church-{encoder.name}.safetensors"
        for encoder in base.text
    }
    denoiser = models / "diffusion_models" / "without-church.safetensors"
    assert all(name.startswith("model.diffusion_model.") for name in load_file(denoiser))
    same_images(loaded(own.base, denoiser=denoiser, text_encoder=texts), own.model)
    assert "decoder.mid.block_1.conv1.weight" in load_file(models / "vae" / "without-church.safetensors")


def test_names_that_comfyui_tells_text_encoders_by(safe: Maker, tmp_path: Path) -> None:
    known = {
        ("flux", "t5"): "encoder.block.0.layer.0.SelfAttention.k.weight",
        ("flux", "clip_l"): "text_model.encoder.layers.1.mlp.fc1.weight",
        ("z_image", "llm"): "model.layers.0.post_attention_layernorm.weight",
    }
    for (family, encoder), name in known.items():
        own = safe(family)
        out = tmp_path / family
        if not out.exists():
            own.erasure.export(out, "comfyui", base=loaded(own.base))
        file = out / "models" / "text_encoders" / f"without-church-{encoder}.safetensors"
        assert name in load_file(file)


def test_what_cannot_be_one_file_is_refused(safe: Maker, tmp_path: Path) -> None:
    for family in ("stable_diffusion_3", "flux", "z_image"):
        own = safe(family)
        for form in ("single-file", "a1111"):
            refused = run("export", own.folder, "--format", form, "-o", tmp_path / "out")
            assert_refused(refused, "--format comfyui or diffusers")
    model = sgrace.load_model("emoji", device="cpu")
    made = of_denoiser(model)
    for form in ("single-file", "a1111", "comfyui"):
        with pytest.raises(InputError, match="AutoencoderTiny has no original layout"):
            made.export(tmp_path / "out", form, base=model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["single-file", "a1111", "comfyui"])
def test_a_model_with_a_learned_word_is_no_file_of_weights(safe: Maker, tmp_path: Path, form: str) -> None:
    base = safe("stable_diffusion", "unet").base
    save_file({"<cat>": torch.ones(1, 24)}, tmp_path / "word.safetensors")
    model = loaded(base, embeddings=[tmp_path / "word.safetensors"])
    with pytest.raises(InputError, match="has learned '<cat>'"):
        of_denoiser(model).export(tmp_path / "out", form, base=model)
