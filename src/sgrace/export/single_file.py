"""A checkpoint in one file, in the layout of the code that trained the model."""

from __future__ import annotations

from pathlib import Path

from ..erasure.card import Loading
from ._checkpoint import checkpoint, refusal
from ._job import Job
from .base import Format, save


class SingleFile(Format):
    """Denoiser, autoencoder and text encoders in one file, as Stable Diffusion 1, 2 and XL are published."""

    name = "single_file"
    file_name = "model.safetensors"

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        return refusal(job)

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        save(checkpoint(job), folder / self.file_name, job)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        kind = type(job.model.pipeline).__name__
        file = f"DIR/{self.file_name}"
        again = f"sgrace attack {file} --base BASE --concept CONCEPT -o sets"
        return [
            Loading("diffusers", f'pipe = diffusers.{kind}.from_single_file("{file}", config="BASE")'),
            Loading("sgrace, to attack it again", again, "sh"),
            Loading("AUTOMATIC1111", f"{self.file_name} in models/Stable-diffusion", ""),
            Loading(
                "ComfyUI", f"{self.file_name} in models/checkpoints, by the node CheckpointLoaderSimple", ""
            ),
        ]
