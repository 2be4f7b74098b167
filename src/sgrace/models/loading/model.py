"""A whole model: its pipeline, and the parts that are exchanged or added."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..._util.device import choose_device, choose_dtype
from ..._util.errors import InputError, choices
from ..._util.tensors import is_finite
from ..._util.text import shown
from ..base import DiffusionModel
from ..families._additions import add_embedding, fuse_lora, need_peft
from ..families._pipelines import load_pipeline, pipeline_class
from ..families._quiet import quiet_libraries
from ..fit import check_fit
from ..origin import PLAIN, Origin, split_setting
from .known import known_families, known_pipelines
from .networks import load_component
from .sources import Source, checked, read_tensors

#: File beside a pipeline: CLIP's projection from pooled text states to the space shared with images.
TEXT_PROJECTION = "text_projection.safetensors"
#: Usual names of files in folders and repositories.
LORA = "pytorch_lora_weights.safetensors"
EMBEDDING = "learned_embeds.safetensors"


def load_model_from(
    source: Any,  # noqa: ANN401  (a pipeline of diffusers has a class of each family)
    origin: Origin = PLAIN,
    *,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: bool = False,
) -> DiffusionModel:
    """A model from a diffusers folder, a hub id, one file, or a pipeline of diffusers that is loaded already.

    Args:
        source: folder, hub id, safetensors file or pipeline.
        origin: what else is loaded: revision and variant, and parts in the place of the pipeline's own.
        device: ``auto`` (the best that is there; a loaded pipeline's own), ``cpu``, ``cuda``, ``cuda:1``,
            ``mps``.
        dtype: ``auto`` (a loaded pipeline's own), ``float32``, ``float16`` or ``bfloat16``, of the frozen
            networks.
        low_memory: keep only the network at work on the device, checkpoint gradients, decode in tiles.

    Raises:
        InputError: it is not a readable pipeline of a known family, a part does not fit it, or the device is
            not there.
    """
    chosen = choose_device(device)
    kind = choose_dtype(dtype, chosen)
    _check(origin)
    with quiet_libraries():
        if isinstance(source, str | Path):
            model = _with_parts(_from_source(source, origin, kind), origin)
        else:
            model = _from_live(source, origin)
            chosen = model.device if device == "auto" else chosen
            kind = model.dtype if dtype == "auto" else kind
    _check_finite(model)
    check_fit(model)
    if low_memory:
        model.low_memory = True
        model.save_memory()
    return model.to(chosen, kind)


def _check(origin: Origin) -> None:
    """Check what can be checked before anything large is read.

    Raises:
        InputError: a part is not there, or is a pickle, or what reads it is not installed.
    """
    if origin.loras:
        need_peft()
    additions = [split_setting(given)[0] for given in (*origin.loras, *origin.embeddings)]
    denoiser = [origin.denoiser] if origin.denoiser else []
    for source in (*origin.text_encoder.values(), *denoiser, *additions):
        place = Source.parse(source)
        if place.local is not None and not place.is_model:
            checked(place.local)


def _from_source(source: str | Path, origin: Origin, dtype: torch.dtype) -> DiffusionModel:
    """The model of a folder, hub id or file as it is."""
    if Path(source).is_file():
        model = _from_single_file(Path(source), origin.config, dtype)
    elif origin.config is not None:
        raise InputError("--config belongs to a model in one file; a folder or hub id has its own.")
    else:
        family = _family_of(pipeline_class(source, origin.revision), str(source))
        pipeline = load_pipeline(source, dtype, origin.variant, origin.revision)
        model = family.from_pipeline(pipeline, str(source))
    for encoder in model.text:
        # transformers loads an empty tokenizer without a word
        known = set(encoder.tokenizer.get_vocab().values())
        if known <= encoder.special_ids:  # what transformers makes of a folder without files
            raise InputError(
                f"Cannot load {str(source)!r}: the tokenizer of its {encoder.component} is missing or empty."
            )
    projection = Path(source) / TEXT_PROJECTION
    if projection.is_file():
        model.text = model.text.with_projection(_projection(projection, model.text.main.width))
    # recorded, so that a recipe names what was loaded
    model.origin = origin
    return model


def _projection(file: Path, width: int) -> Tensor:
    """The matrix ``(features, width)`` beside a pipeline.

    Raises:
        InputError: the file holds none, or one for a text encoder of another width.
    """
    weight = read_tensors(file).get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != width:
        raise InputError(f"{shown(file)} holds no matrix named weight with {width} columns.")
    return weight.float()


def _check_finite(model: DiffusionModel) -> None:
    """Check the weights as they are in the model's precision; networks of NaN draw NaN and learn nothing.

    Raises:
        InputError: there is NaN or infinity among them.
    """
    for component, network in model.components.items():
        for name, value in network.named_parameters():
            if not is_finite(value):
                precision = str(value.dtype).removeprefix("torch.")
                raise InputError(
                    f"{model.label}: tensor {name} of the {component} holds NaN or infinity in {precision}."
                )


def _from_single_file(path: Path, config: str | None, dtype: torch.dtype) -> DiffusionModel:
    """The model of a checkpoint in one file."""
    from ..families._single_file import configuration, load_single_file  # noqa: PLC0415  (slow to import)

    known = {kind: one for family in known_families() for kind, one in family.single_files.items()}
    with configuration(checked(path), config, known) as found:
        family = _family_of(found.pipeline, config or str(path))
        return family.from_pipeline(load_single_file(path, found, dtype), str(path))


def _from_live(pipeline: Any, origin: Origin) -> DiffusionModel:  # noqa: ANN401  (of diffusers)
    """The model of a pipeline that is loaded already; its networks are shared.

    Raises:
        InputError: it is of no known family, has LoRA layers, or is to get other parts.
    """
    family = _family_of(type(pipeline).__name__, "The object")
    if origin != PLAIN:
        raise InputError("A loaded pipeline is taken as it is: exchange its parts with diffusers before.")
    model = family.from_pipeline(pipeline, str(pipeline.name_or_path or "pipeline"))
    if any(getattr(module, "peft_config", None) for module in model.components.values()):
        raise InputError(
            "The pipeline has LoRA layers beside its weights: call its fuse_lora(components=[...]) and "
            "unload_lora_weights() before."
        )
    return model


def _family_of(name: str | None, source: str) -> type[DiffusionModel]:
    """The family that reads a class of pipelines.

    Raises:
        InputError: none does.
    """
    if name in known_pipelines():
        return known_pipelines()[name]
    families = "; ".join(f"{family.family} ({', '.join(family.pipelines)})" for family in known_families())
    raise InputError(f"{source} holds a {name}, which no family of models reads; there are: {families}.")


def _with_parts(model: DiffusionModel, origin: Origin) -> DiffusionModel:
    """The model with networks exchanged, LoRAs fused and learned words added."""
    texts: dict[str, nn.Module] = {}
    components = [encoder.component for encoder in model.text]
    for component, source in origin.text_encoder.items():
        if component not in components:
            raise InputError(f"The model has no text encoder {component!r}; {choices(component, components)}")
        texts[component] = load_component(source, model.components[component])
    denoiser = origin.denoiser and load_component(origin.denoiser, model.denoiser, may_lack=True)
    model = model.replace(denoiser=denoiser or None, text=texts)
    for given in origin.loras:
        source, scale = split_setting(given)
        file = Source.parse(source).file(LORA)
        fuse_lora(model, read_tensors(file), source, _scale(scale))
    for given in origin.embeddings:
        source, token = split_setting(given)
        file = Source.parse(source).file(EMBEDDING)
        add_embedding(model, read_tensors(file), source, token)
    return model


def _scale(text: str | None) -> float:
    try:
        scale = 1.0 if text is None else float(text)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise InputError(f"The scale of a LoRA is a number such as 0.8, not {text!r}.")
    return scale
