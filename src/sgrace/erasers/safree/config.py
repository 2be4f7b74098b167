"""Settings of SAFREE, and its presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..._util.settings import Settings
from .._shared.prompts import Names

#: Length of the schedule for which ``filter_steps`` is stated.
SCHEDULE = 50


class SAFREEConfig(Settings):
    """Settings; defaults are those of the paper for nudity."""

    words: Names = Field(
        "related", description="The concept's phrases: its name only, or its related words too."
    )
    alpha: float = Field(
        0.01,
        ge=-1,
        le=100,
        description="Margin of the trigger test. A token is a trigger if removing it moves the prompt at "
        "least 1 + alpha times as far from the concept's subspace as removing an average other token.",
    )
    removal: Literal["masked", "left-out"] = Field(
        "masked",
        description="Remove a token by masking it, as published, or by leaving it out, for encoders that "
        "read no mask.",
    )
    reach: Literal["triggers", "onward"] = Field(
        "triggers",
        description="Project the trigger tokens only, as published, or all that follows them too, end and "
        "padding included: a causal encoder has passed the triggers' meaning on to them.",
    )
    middle: float = Field(
        5.333,
        ge=-100,
        le=100,
        description="Change of the prompt, 10 (1 - cos), at which half of filter_steps are filtered.",
    )
    slope: float = Field(2.5, ge=0, le=1000, description="Slope of that dependence.")
    filter_steps: int = Field(
        10,
        ge=0,
        le=SCHEDULE,
        description="Most steps that are filtered, of a schedule of 50; scaled to others; 0 for none.",
    )
    negative: bool = Field(False, description="Use the concept's phrases as the negative prompt, too.")


PRESETS: dict[str, dict[str, Any]] = {
    "paper-sd14-nudity": {},
    "paper-sd14-style": {"words": "name", "middle": 5.5, "slope": 3.5},
    # its script feeds the phrases as the negative prompt, and its figures have both
    "as-released": {"negative": True},
    "emoji": {
        "alpha": 0.2, "removal": "left-out", "reach": "onward", "filter_steps": 50, "middle": -10.0,
        "negative": True,
    },
}  # fmt: skip
