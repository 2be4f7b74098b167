"""Pipelines of diffusers as they are read from folders and the hub, before a family wraps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..._util.errors import InputError


def pipeline_class(source: str | Path, revision: str | None) -> str | None:
    """The class that a pipeline's index names.

    Raises:
        InputError: there is no index, or it is not valid JSON.
    """
    path = Path(source)
    index = path / "model_index.json"
    # a local folder is never looked up on the hub
    if path.exists() and not index.is_file():
        raise InputError(f"{path} is not a diffusers pipeline folder: it has no model_index.json.")
    try:
        if not path.exists():
            from diffusers import DiffusionPipeline  # noqa: PLC0415  (only for the hub)

            return str(DiffusionPipeline.load_config(str(source), revision=revision).get("_class_name"))
        return str(json.loads(index.read_text()).get("_class_name"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{index} is not valid JSON.") from error
    except Exception as error:
        raise InputError(f"Cannot load {str(source)!r} as a diffusers pipeline ({reason(error)}).") from error


def load_pipeline(
    source: str | Path,
    dtype: torch.dtype,
    variant: str | None,
    revision: str | None,
) -> Any:  # noqa: ANN401  (each family has its own class)
    """The diffusers pipeline of a folder or hub id, without what looks at finished images.

    Raises:
        InputError: it cannot be read.
    """
    from diffusers import DiffusionPipeline  # noqa: PLC0415  (slow to import)

    load: Any = DiffusionPipeline.from_pretrained
    # what looks at finished images is not needed, and published folders often lack it
    options: dict[str, Any] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    try:
        return load(source, revision=revision, variant=variant, dtype=dtype, use_safetensors=True, **options)
    except Exception as error:  # diffusers, safetensors and the hub client each raise their own kinds
        raise InputError(f"Cannot load {str(source)!r} as a diffusers pipeline ({reason(error)}).") from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Errors only, and no progress bars, from diffusers and transformers: their notes help no caller."""
    from diffusers.utils import logging as of_diffusers  # noqa: PLC0415  (slow to import)
    from transformers.utils import logging as of_transformers  # noqa: PLC0415

    both = (of_diffusers, of_transformers)
    levels = [logging.get_verbosity() for logging in both]
    with_bars = [logging for logging in both if logging.is_progress_bar_enabled()]
    for logging in both:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level in zip(both, levels, strict=True):
            logging.set_verbosity(level)
        for logging in with_bars:
            logging.enable_progress_bar()


def reason(error: Exception) -> str:
    """The beginning of another library's message, on one line."""
    return " ".join(str(error).split())[:160]
