"""Settings that several erasers have: their type, range and description.

A class gives the default, and another description where its setting means more: ``lr: AdamRate = 1e-5``,
``n_images: Count = Field(500, description="Images of the concepts.")``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

#: Number of prompts, images or samples.
Count = Annotated[int, Field(ge=1, le=100_000)]
Iterations = Annotated[int, Field(ge=0, le=1_000_000, description="Training steps.")]
BatchSize = Annotated[int, Field(ge=1, le=1024, description="Samples in a training step.")]
ImageBatchSize = Annotated[int, Field(ge=1, le=1024, description="Images in a training step.")]
AdamRate = Annotated[float, Field(gt=0, le=1, description="Learning rate of Adam.")]
AdamWRate = Annotated[float, Field(gt=0, le=1, description="Learning rate of AdamW.")]
WeightDecay = Annotated[float, Field(ge=0, le=1, description="Weight decay of AdamW.")]
MaxNorm = Annotated[float, Field(gt=0, description="Gradients are clipped to this norm.")]

ImageSteps = Annotated[int, Field(ge=1, le=1000, description="Sampling steps of the images.")]
ImageGuidance = Annotated[float, Field(ge=1, le=50, description="Guidance scale of the images.")]
PartialSteps = Annotated[
    int, Field(ge=1, le=1000, description="Length of the schedule of the partial samples.")
]
PartialGuidance = Annotated[float, Field(ge=1, le=50, description="Guidance scale of the partial samples.")]

Encoders = Annotated[
    str,
    Field(
        min_length=1,
        description="Text encoders that are trained: clip for every CLIP encoder of the model, all, or names "
        "joined by commas, such as clip_g,t5.",
    ),
]
