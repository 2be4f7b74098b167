"""Erasures themselves, as ``sgrace erase`` saves them, with the card of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..erasure.card import Loading
from ..erasure.files import loading
from ._job import Job
from .base import Format


class Saved(Format):
    """What changed and the recipe; the erasures that were applied before it are its parents."""

    name = "erasure"
    holds_everything = True

    def write(self, job: Job, folder: Path) -> list[str]:
        """See :meth:`Format.write`."""
        *parents, last = job.model.erasures
        replace(last, parents=tuple(parents)).save_pretrained(folder, dtype=job.model.dtype)
        return []

    def loading(self, job: Job) -> list[Loading]:
        """See :meth:`Format.loading`."""
        return loading(job.model.erasures[-1])
