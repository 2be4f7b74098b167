"""The finished stages of a recipe as files: a pipeline folder, or an erasure where a concept was left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...._util.files import write_json
from ...._util.folders import new_folder
from ...._util.provenance import versions
from ....concept import Concept
from ....erasure import Erasure, base_of
from ....erasure import Recipe as ErasureRecipe
from ....erasure.int8 import packed
from ....erasure.recipe import Cost, RecipeTarget
from ....models.loading import load_model_from
from ..concepts import path, resolve
from ..judge import VALIDATION, Judge
from ..retrained import METHOD
from .art import SOURCES
from .denoiser import new_scheduler
from .presets import CPU
from .recipe import Recipe
from .validate import known_scores


def export(recipe: Recipe, out: Path) -> None:
    """Write the pipeline folder in fp16, with the judge, the image encoder and the credits beside it.

    Of a recipe that leaves a concept out only the text encoder and the denoiser are written, in int8, as an
    erasure of the built-in model. Of one with other widths only the denoiser is written, in int8.

    Raises:
        InputError: the folder exists and is not empty, or cannot be written.
    """
    denoiser = UNet2DConditionModel.from_pretrained(recipe.work / "denoiser")
    if recipe.without is not None:
        _export_erasure(recipe, recipe.without, denoiser, out)
        return
    if tuple(denoiser.config.block_out_channels) != CPU.widths:
        _export_denoiser(recipe, denoiser, out)
        return
    if out.exists():
        raise FileExistsError(f"{out} exists already; name a folder that does not.")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=recipe.autoencoder(),
        text_encoder=recipe.text_encoder(),
        tokenizer=recipe.tokenizer(),
        unet=denoiser,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(partial)
    clip = recipe.clip()
    settings: Any = clip.config.vision_config
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings.to_dict()))
    vision.vision_model.load_state_dict(clip.vision_model.state_dict())
    vision.visual_projection.load_state_dict(clip.visual_projection.state_dict())
    vision.half().save_pretrained(partial / "image_encoder")
    shared = {
        "weight": clip.text_projection.weight.detach().half().contiguous(),
        "logit_scale": clip.logit_scale.detach(),
    }
    save_file(shared, partial / "text_projection.safetensors")
    for config in partial.glob("*/config.json"):
        settings = json.loads(config.read_text())
        settings.pop("_name_or_path", None)  # a path of the machine that trained
        if "dtype" in settings:
            settings["dtype"] = "float32"  # transformers would load half precision where diffusers does not
        if settings.get("_class_name") == "AutoencoderTiny":
            del settings["block_out_channels"]  # diffusers derives it, and warns where a file says it
        config.write_text(json.dumps(settings, indent=2) + "\n")
    shutil.copy(recipe.work / "judge" / "judge.safetensors", partial)
    save_file(known_scores(Judge.from_pretrained(partial), recipe.data), partial / VALIDATION)
    (partial / "classes.json").write_text(json.dumps(_class_table(recipe), indent=1) + "\n")
    (partial / "LICENSES.md").write_text(_credits())
    if (recipe.work / "log.jsonl").exists():
        shutil.copy(recipe.work / "log.jsonl", partial / "training.jsonl")
    partial.rename(out)


def _export_denoiser(recipe: Recipe, denoiser: UNet2DConditionModel, out: Path) -> None:
    settings = {name: value for name, value in denoiser.config.items() if name != "_name_or_path"}
    with new_folder(out) as partial:
        write_json(partial / "config.json", settings)
        save_file(packed(denoiser.state_dict()), partial / "unet.safetensors")
        shutil.copy(recipe.work / "log.jsonl", partial / "training.jsonl")


def _export_erasure(recipe: Recipe, concept: str, denoiser: UNet2DConditionModel, out: Path) -> None:
    log = [json.loads(line) for line in (recipe.work / "log.jsonl").read_text().splitlines()]
    model = load_model_from(path(), device="cpu", dtype="float32")
    model.source = model.testbed = "emoji"
    networks = {"text_encoder": recipe.text_encoder(), model.denoiser_component: denoiser}
    tensors = {
        component: {name: parameter.detach() for name, parameter in network.named_parameters()}
        for component, network in networks.items()
    }
    facts = ErasureRecipe(
        method=METHOD,
        targets=(RecipeTarget(concept=Concept(name=concept, kind=resolve(concept).kind)),),
        base=base_of(model, tensors),
        seed=recipe.seed,
        cost=Cost(
            trained_parameters=sum(value.numel() for own in tensors.values() for value in own.values())
        ),
        seconds=sum(stage["seconds"] for stage in log),
        versions=versions(),
        details={"stages": log},
    )
    Erasure.of(facts, model, tensors).save_pretrained(out, small=True)


def _class_table(recipe: Recipe) -> list[dict[str, object]]:
    names, words = recipe.data.names, recipe.data.keywords
    return [{"name": names[i], "keywords": words[i]} for i in range(recipe.data.n_classes)]


def _credits() -> str:
    lines = [
        (
            "The weights in this folder were trained on these drawings (resized, on a white background), "
            "which are not included:"
        ),
        "",
    ]
    lines += [
        f"- {name}: {s.credit}. Licence: {s.licence}. From the {s.client} package {s.package}."
        for name, s in SOURCES.items()
    ]
    lines += [
        "",
        "Names, keywords, groups: emojibase-data (MIT; Unicode CLDR data, Unicode-3.0) and emojilib (MIT).",
        "",
    ]
    return "\n".join(lines)
