"""Models and their parts from folders, files and the hub, with one sentence for what cannot be read."""

from __future__ import annotations

from .known import known_families, known_pipelines
from .model import TEXT_PROJECTION, load_model_from
from .networks import load_component

__all__ = ["TEXT_PROJECTION", "known_families", "known_pipelines", "load_component", "load_model_from"]
