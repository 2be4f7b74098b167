"""Erased text encoders alone, as folders of transformers or as one file."""

from __future__ import annotations

from pathlib import Path

from ..erasure.card import Loading
from ..erasure.text_folder import WEIGHTS, TextFolder
from ..models.text import TextEncoder
from ._job import Job
from .base import Format


class Text(Format):
    """The text encoders that an erasure changed; of several, each in a folder of its component's name."""

    name = "text_encoder"
    file_name = WEIGHTS

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        if _encoders(job):
            return ""
        changed = ", ".join(sorted(job.changed))
        return f"This erasure changes no text encoder but the {changed}: export that with --format unet."

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        for encoder in _encoders(job):
            tensors = {name: value.detach().cpu() for name, value in encoder.module.named_parameters()}
            TextFolder.of(encoder).save(folder / _place(job, encoder), tensors, header=job.facts)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        kind = type(job.model.pipeline).__name__
        lines = [f'pipe = diffusers.{kind}.from_pretrained("BASE")']
        options = []
        for encoder in _encoders(job):
            network = f"transformers.{type(encoder.module).__name__}"
            place = f"DIR/{_place(job, encoder)}".rstrip("/")
            lines.append(f'pipe.{encoder.component} = {network}.from_pretrained("{place}")')
            options.append(f"--text-encoder {encoder.component}={place}")
        again = f"sgrace attack BASE {' '.join(options)} --concept CONCEPT -o sets"
        comfy = "DIR's model.safetensors in models/text_encoders, by the node CLIPLoader"
        return [
            Loading("diffusers", "\n".join(lines)),
            Loading("sgrace, to attack it again", again, "sh"),
            Loading("ComfyUI", comfy, ""),
        ]


def _encoders(job: Job) -> list[TextEncoder]:
    return [encoder for encoder in job.model.text if encoder.component in job.changed]


def _place(job: Job, encoder: TextEncoder) -> str:
    """Sub-folder of an encoder: none, if it is the only one."""
    return "" if len(_encoders(job)) == 1 else encoder.component
