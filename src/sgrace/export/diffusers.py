"""A whole pipeline in a folder, which every program that reads diffusers' folders loads."""

from __future__ import annotations

from pathlib import Path

from ..erasure.card import Loading
from ._job import Job
from .base import Format


class Diffusers(Format):
    """The folder of a pipeline of diffusers."""

    name = "diffusers"

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        pipeline = job.model.pipeline
        pipeline.save_pretrained(folder)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        kind = type(job.model.pipeline).__name__
        again = "sgrace attack DIR --base BASE --concept CONCEPT -o sets"
        return [
            Loading("diffusers", f'pipe = diffusers.{kind}.from_pretrained("DIR")'),
            Loading("sgrace, to attack it again", again, "sh"),
            Loading("ComfyUI", "the node DiffusersLoader, with DIR in models/diffusers", ""),
        ]
