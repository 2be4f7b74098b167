"""The change of weights as a LoRA, in the names of diffusers, of kohya's scripts and of ComfyUI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..erasure.card import Loading
from ..models.families._additions import lora_components
from ..models.original import to_original
from ..models.text_files import PREFIX
from ._job import Job
from ._low_rank import Pair, Remainder, factored, layer_changes, numerical_rank
from .base import SUFFIX, Format, save

#: As diffusers looks for it.
FILE = "pytorch_lora_weights.safetensors"
#: Layers of text encoders of which programs read a LoRA.
TEXT_LAYERS = (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2")


class Layer(NamedTuple):
    """A layer by its component of the pipeline and its name, which of text encoders is the published one."""

    component: str
    name: str

    def __str__(self) -> str:
        return f"{self.component}.{self.name}"


Pairs = Mapping[Layer, Pair]


class Changes(NamedTuple):
    """What changed: weights of layers that can have a LoRA, and everything else by name."""

    layers: dict[Layer, Tensor]
    others: dict[str, Tensor]


class LoRA(Format):
    """Low-rank matrices beside the layers of the model before erasing, and how much of the change they miss.

    One file has the names of diffusers (and peft). Another one has those of kohya's scripts or, for
    transformers, those of ComfyUI.
    """

    name = "lora"

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        if strange := sorted(job.changed - set(lora_components(job.model))):
            family = job.model.family
            return f"Programs read no LoRA of the {strange[0]} of a {family} model: --format diffusers."
        if not _changes(job).layers:
            return "The erasure changes no matrix of a layer of which a LoRA can be made: --format diffusers."
        return ""

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        layers, others = _changes(job)
        rank = min(job.rank, max(numerical_rank(change) for change in layers.values()))
        pairs = {layer: factored(change, rank, job.model.dtype) for layer, change in layers.items()}
        save(_for_diffusers(pairs), folder / FILE, job)
        if _place(job).startswith("kohya"):
            save(_for_kohya(job, pairs), folder / _place(job), job)
        else:
            save(_for_comfyui(job, layers, pairs), folder / _place(job), job)
        left = {str(layer): _square(layers[layer] - pair.change()) for layer, pair in pairs.items()}
        whole = {str(layer): _square(change) for layer, change in layers.items()}
        outside = {name: _square(change) for name, change in others.items()}
        return Remainder(rank, left, whole, outside).in_words()

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        kind = type(job.model.pipeline).__name__
        lines = [f'pipe = diffusers.{kind}.from_pretrained("BASE")', 'pipe.load_lora_weights("DIR")']
        again = "sgrace attack BASE --lora DIR --base BASE --concept CONCEPT -o sets"
        place = _place(job)
        found = [
            Loading("diffusers", "\n".join(lines)),
            Loading("sgrace, to attack it again", again, "sh"),
            Loading("ComfyUI", f"DIR/{place} in models/loras, node LoraLoader, strength 1", ""),
        ]
        if place.startswith("kohya"):
            prompt = f"<lora:{job.name}:1> in the prompt"
            found.append(Loading("AUTOMATIC1111", f"DIR/{place} in models/Lora, {prompt}", ""))
        return found


def _changes(job: Job) -> Changes:
    layers: dict[Layer, Tensor] = {}
    others: dict[str, Tensor] = {}
    for component in sorted(job.changed):
        found, rest = layer_changes(job.original.components[component], job.model.components[component])
        is_text = component != job.model.denoiser_component
        for name, change in found.items():
            if is_text and not name.endswith(TEXT_LAYERS):
                rest[f"{name}.weight"] = change
            else:
                # transformers has dropped the beginning of some, which published files have
                public = PREFIX + name.removeprefix(PREFIX) if is_text else name
                layers[Layer(component, public)] = change
        others |= {f"{component}.{name}": change for name, change in rest.items()}
    return Changes(layers, others)


def _place(job: Job) -> str:
    """Where the file for other programs than diffusers is."""
    # only a UNet has the same layers in diffusers and in the original code
    kind = "kohya" if job.model.denoiser_component == "unet" else "comfyui"
    return f"{kind}/{job.name}{SUFFIX}"


def _for_diffusers(pairs: Pairs) -> dict[str, Tensor]:
    """The names of peft, behind the component's."""
    downs = {f"{layer}.lora_A.weight": pair.down for layer, pair in pairs.items()}
    return downs | {f"{layer}.lora_B.weight": pair.up for layer, pair in pairs.items()}


def _for_kohya(job: Job, pairs: Pairs) -> dict[str, Tensor]:
    """The names of kohya's scripts: with underscores, and text encoders numbered where there are several."""
    several = len(job.model.text) > 1
    starts = {encoder.component: f"lora_te{i}" for i, encoder in enumerate(job.model.text, 1)}
    tensors: dict[str, Tensor] = {}
    for layer, (down, up) in pairs.items():
        start = starts.get(layer.component, "lora_unet")
        name = f"{start if several else start.rstrip('1')}_{layer.name.replace('.', '_')}"
        # alpha / rank is the scale: 1
        alpha = torch.tensor(float(len(down)))
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}
    return tensors


def _for_comfyui(job: Job, layers: Mapping[Layer, Tensor], pairs: Pairs) -> dict[str, Tensor]:
    """The original names of a transformer's layers, in which several layers of diffusers are one.

    Text encoders have the names of kohya's scripts.
    """
    model = job.model
    texts = {layer: pair for layer, pair in pairs.items() if layer.component != model.denoiser_component}
    tensors = _for_kohya(job, texts)
    own = {f"{layer.name}.weight": change for layer, change in layers.items() if layer not in texts}
    state = model.denoiser.state_dict()
    for name, original in model.original_layouts()[model.denoiser_component].items():
        if not any(source in own for source in original.sources):
            continue
        # a layer that did not change may stand beside one that did
        parts = {key: own.get(key, torch.zeros(state[key].shape)) for key in original.sources}
        joint = to_original(parts, {name: original})[name]
        pair = factored(joint, min(len(parts) * _rank(pairs), *joint.shape[:2]), model.dtype)
        module = name.removeprefix("model.").removesuffix(".weight")
        tensors |= {f"{module}.lora_A.weight": pair.down, f"{module}.lora_B.weight": pair.up}
    return tensors


def _rank(pairs: Pairs) -> int:
    return len(next(iter(pairs.values())).down)


def _square(change: Tensor) -> float:
    return float(change.square().sum())
