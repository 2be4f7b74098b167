"""The erased denoiser alone, UNet or transformer, as a folder of diffusers or as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..erasure.card import Loading
from ._job import Job
from .base import Format, save


class Denoiser(Format):
    """The denoiser that an erasure changed, by the names of diffusers."""

    name = "unet"
    file_name = "diffusion_pytorch_model.safetensors"

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        if job.model.denoiser_component in job.changed:
            return ""
        changed = ", ".join(sorted(job.changed))
        return f"This erasure leaves the denoiser as it is: export the {changed} with --format text-encoder."

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        denoiser: Any = job.model.denoiser
        denoiser.save_config(folder)
        save(denoiser.state_dict(), folder / self.file_name, job)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        pipeline = type(job.model.pipeline).__name__
        network = type(job.model.denoiser).__name__
        component = job.model.denoiser_component
        lines = [
            f'denoiser = diffusers.{network}.from_pretrained("DIR")',
            f'pipe = diffusers.{pipeline}.from_pretrained("BASE", {component}=denoiser)',
        ]
        again = "sgrace attack BASE --denoiser DIR --concept CONCEPT -o sets"
        comfy = f"DIR's {self.file_name} in models/diffusion_models, by the node UNETLoader"
        return [
            Loading("diffusers", "\n".join(lines)),
            Loading("sgrace, to attack it again", again, "sh"),
            Loading("ComfyUI", comfy, ""),
        ]
