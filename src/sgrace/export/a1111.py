"""The folder of AUTOMATIC1111's web UI, with the checkpoint in its place."""

from __future__ import annotations

from pathlib import Path

from ..erasure.card import Loading
from ._checkpoint import checkpoint, refusal
from ._job import Job
from .base import SUFFIX, Format, save


class A1111(Format):
    """``models/Stable-diffusion/NAME.safetensors``, to be laid over the folder of the web UI."""

    name = "a1111"

    def refusal(self, job: Job) -> str:
        """See :meth:`Format.refusal`."""
        return refusal(job)

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        save(checkpoint(job), folder / _place(job), job)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        again = f"sgrace attack DIR/{_place(job)} --base BASE --concept CONCEPT -o sets"
        return [
            Loading("AUTOMATIC1111", "cp -r DIR/models/. stable-diffusion-webui/models/", "sh"),
            Loading("sgrace, to attack it again", again, "sh"),
        ]


def _place(job: Job) -> str:
    return f"models/Stable-diffusion/{job.name}{SUFFIX}"
