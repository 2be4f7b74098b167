"""LoRAs and learned words, which diffusers adds to a pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import PurePosixPath

from torch import Tensor, nn

from ..._util.errors import InputError
from ..base import DiffusionModel
from ..text import TextEncoder
from ._pipelines import reason

#: The first of a layer's two matrices, as peft, diffusers and kohya name it -> the second.
_HALVES = {"lora_A": "lora_B", "lora_down": "lora_up", ".down": ".up"}
_OTHER_HALF = {**_HALVES, **{up: down for down, up in _HALVES.items()}}
_HALF = re.compile(rf"({'|'.join(map(re.escape, _OTHER_HALF))})((?:\.default)?\.weight)$")
#: How torch says that a tensor does not fit.
_OTHER_SIZE = re.compile(r"size mismatch for (\S+):")
#: Names under which files hold the vectors of a word whose name they do not say.
NAMELESS = ("emb_params", "*")


def need_peft() -> None:
    """Check that LoRAs can be read.

    Raises:
        InputError: the package is missing.
    """
    if find_spec("peft") is None:
        raise InputError("LoRAs need the package peft: `pip install 'sgrace[lora]'`.")


def lora_components(model: DiffusionModel) -> tuple[str, ...]:
    """Components of which diffusers reads LoRAs, for pipelines of the model's class."""
    # diffusers names them nowhere else
    return tuple(getattr(model.pipeline, "_lora_loadable_modules", ()))


def fuse_lora(model: DiffusionModel, tensors: Mapping[str, Tensor], source: str, scale: float) -> None:
    """Add a LoRA to the weights of a model's networks, W + scale * (alpha / rank) * B A, in place.

    Args:
        model: whose networks nobody else uses.
        tensors: of the LoRA, in any layout that diffusers reads.
        source: of the tensors, for errors.
        scale: factor of the change.

    Raises:
        InputError: the LoRA was made for another model, or the family takes none.
    """
    pipeline = model.pipeline
    if not hasattr(pipeline, "load_lora_weights"):
        raise InputError(f"Pipelines of the family {model.family} take no LoRA.")
    refusal = f"{source} is no LoRA for this model"
    layers = _whole_layers(tensors, source)
    try:
        pipeline.load_lora_weights(dict(tensors))
    except Exception as error:  # peft and diffusers fail in many ways on what does not fit
        if other := _OTHER_SIZE.search(str(error)):
            raise InputError(f"{refusal}: its {other[1]} has another size.") from error
        raise InputError(f"{refusal} ({reason(error)}).") from error
    networks = {name: model.components[name] for name in pipeline.get_list_adapters()}
    # diffusers drops layers that a network does not have without an error
    placed = sum(len(_adapted(network)) for network in networks.values())
    if placed < layers or not placed:
        raise InputError(f"{refusal}: {layers - placed} of its {layers} layers have no place in it.")
    pipeline.fuse_lora(components=list(networks), lora_scale=scale)
    pipeline.unload_lora_weights()
    for network in networks.values():
        network.requires_grad_(requires_grad=False)


def add_embedding(
    model: DiffusionModel, tensors: Mapping[str, Tensor], source: str, token: str | None
) -> None:
    """Add a learned word to the tokenizers and the text encoders of a model, in place.

    A word of several vectors is several tokens: ``word``, ``word_1`` ...

    Args:
        model: whose text encoders nobody else uses.
        tensors: ``(vectors, width)`` by the word, or by the name of each text encoder.
        source: of the tensors, for errors.
        token: the word; the file's own or else its name, if absent.

    Raises:
        InputError: the vectors fit no text encoder, or the word is known already.
    """
    pipeline = model.pipeline
    if not hasattr(pipeline, "load_textual_inversion"):
        raise InputError(f"Pipelines of the family {model.family} take no textual inversion.")
    if not tensors:
        raise InputError(f"{source} is no learned word: it holds no tensors.")
    by_encoder = [(encoder, tensors[encoder.name]) for encoder in model.text if encoder.name in tensors]
    name, vectors = next(iter(tensors.items()))
    if len(tensors) == 1 and not by_encoder:
        token = token or (None if name in NAMELESS else name)
        by_encoder = [(encoder, vectors) for encoder in model.text if _are_vectors(vectors, encoder)]
    if not by_encoder or not all(_are_vectors(each, encoder) for encoder, each in by_encoder):
        widths = ", ".join(f"{encoder.name} {encoder.width}" for encoder in model.text)
        raise InputError(
            f"{source} is no learned word for this model: it holds {name!r} of the shape "
            f"{list(vectors.shape)}, and the widths of the text encoders are {widths}."
        )
    word = token or PurePosixPath(source).stem
    for encoder, each in by_encoder:
        try:
            pipeline.load_textual_inversion(
                {word: each}, token=word, text_encoder=encoder.module, tokenizer=encoder.tokenizer
            )
        except ValueError as error:
            raise InputError(f"Cannot add {source} ({reason(error)}).") from error
        # resizing has made a new table
        encoder.module.requires_grad_(requires_grad=False)


def _whole_layers(tensors: Mapping[str, Tensor], source: str) -> int:
    """How many layers a LoRA has, all of them with both matrices.

    Raises:
        InputError: one is missing; peft makes it up, of zeros or of whatever the memory holds.
    """
    halves = 0
    for name in tensors:
        if found := _HALF.search(name):
            halves += 1
            other = f"{name[: found.start()]}{_OTHER_HALF[found[1]]}{found[2]}"
            if other not in tensors:
                raise InputError(f"{source} is damaged: it holds {name[-100:]} without {other[-100:]}.")
    return halves // 2


def _are_vectors(value: Tensor, encoder: TextEncoder) -> bool:
    """Whether a tensor is one vector of an encoder's width, or several of them."""
    return value.ndim in (1, 2) and value.shape[-1] == encoder.width and value.numel() > 0


def _adapted(network: nn.Module) -> list[str]:
    """Names of the layers beside which a LoRA was placed."""
    return [name for name, module in network.named_modules() if hasattr(module, "lora_A")]
