"""The folder of ComfyUI, with every file in the place and under the names that its own nodes read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ..erasure.card import Loading
from ..models.original import to_original
from ..models.text import TextEncoder
from ..models.text_files import published_names
from ._checkpoint import checkpoint, learned, refusal
from ._job import Job
from .base import SUFFIX, Format, save

#: The tokens' table of a language model without a head. With one, all names begin with ``model.``, as
#: programs expect it.
LANGUAGE_TABLE = "embed_tokens.weight"


class ComfyUI(Format):
    """A checkpoint where the model can be one; else denoiser, text encoders and autoencoder apart."""

    name = "comfyui"

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        needed = {job.model.denoiser_component, "vae"}
        return learned(job) if needed <= job.model.original_layouts().keys() else refusal(job)

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        for place, tensors in _files(job):
            save(tensors, folder / place, job)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        nodes = "UNETLoader, CLIPLoader and VAELoader" if refusal(job) else "CheckpointLoaderSimple"
        return [
            Loading("ComfyUI", f"cp -r DIR/models/. ComfyUI/models/  # then the nodes {nodes}", "sh"),
            Loading("sgrace, to attack it again", _again(job), "sh"),
        ]


def _files(job: Job) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Places and tensors of all files."""
    if not refusal(job):
        yield f"models/checkpoints/{job.name}{SUFFIX}", checkpoint(job)
        return
    model = job.model
    for component, layout in model.original_layouts().items():
        tensors = to_original(model.components[component].state_dict(), layout)
        if component == model.denoiser_component:
            yield _place_of_denoiser(job), tensors
        else:
            # outside a checkpoint an autoencoder's names have no beginning of their own
            yield f"models/vae/{job.name}{SUFFIX}", {n.partition(".")[2]: v for n, v in tensors.items()}
    for encoder in model.text:
        own = published_names(dict(encoder.module.named_parameters()))
        if LANGUAGE_TABLE in own:
            own = {f"model.{name}": value for name, value in own.items()}
        yield _place_of_text(job, encoder), own


def _place_of_denoiser(job: Job) -> str:
    return f"models/diffusion_models/{job.name}{SUFFIX}"


def _place_of_text(job: Job, encoder: TextEncoder) -> str:
    return f"models/text_encoders/{job.name}-{encoder.name}{SUFFIX}"


def _again(job: Job) -> str:
    """The command that attacks what was written."""
    if not refusal(job):
        return (
            f"sgrace attack DIR/models/checkpoints/{job.name}{SUFFIX} --base BASE --concept CONCEPT -o sets"
        )
    texts = [f"--text-encoder {own.component}=DIR/{_place_of_text(job, own)}" for own in job.model.text]
    parts = " ".join([f"--denoiser DIR/{_place_of_denoiser(job)}", *texts])
    return f"sgrace attack BASE {parts} --concept CONCEPT -o sets"
