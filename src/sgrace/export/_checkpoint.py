"""A whole model in the layout of the code that trained it, as one file has it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.original import to_original
from ..models.schedule import DiffusionSchedule
from ._job import Job

#: Signal that is left at the last timestep of a schedule that ends in pure noise.
NO_SIGNAL = 1e-6


def checkpoint(job: Job) -> dict[str, Tensor]:
    """All tensors of a model by their original names."""
    tensors: dict[str, Tensor] = {}
    for component, layout in job.model.original_layouts().items():
        tensors |= to_original(job.model.components[component].state_dict(), layout)
    return tensors | _marks(job)


def refusal(job: Job) -> str:
    """Why a model cannot be one file; empty if it can."""
    if words := learned(job):
        return words
    layouts = job.model.original_layouts()
    family = job.model.family
    for component, module in job.model.components.items():
        kind = type(module).__name__
        if component in layouts:
            known = {source for original in layouts[component].values() for source in original.sources}
            # buffers, such as positions, are in no file
            if lost := [name for name, _ in module.named_parameters() if name not in known]:
                return f"The original layout of a {kind} has no place for {lost[0]} of this {component}."
        elif component == "vae":
            return f"A {kind} has no original layout, so this model cannot be one file: --format diffusers."
        else:
            return (
                f"One file of a {family} model with its {component} is no layout that is written here: "
                "--format comfyui or diffusers."
            )
    return ""


def learned(job: Job) -> str:
    """Why programs could not load text encoders back that have learned a word; empty if none has."""
    for encoder in job.model.text:
        words = encoder.tokenizer.get_added_vocab()
        if word := next((word for word, i in words.items() if i not in encoder.special_ids), None):
            return (
                f"The {encoder.component} has learned {word[:40]!r}, and a file of weights cannot hold the "
                "tokenizer that knows it: --format diffusers."
            )
    return ""


def _marks(job: Job) -> dict[str, Tensor]:
    """Empty tensors by which programs know that a model predicts v, or starts from pure noise."""
    schedule = job.model.schedule
    marks: dict[str, Tensor] = {}
    if isinstance(schedule, DiffusionSchedule) and schedule.prediction_type == "v_prediction":
        marks["v_pred"] = torch.tensor([])
        if float(schedule.signal[-1]) < NO_SIGNAL:
            marks["ztsnr"] = torch.tensor([])
    return marks
