"""Pipelines of diffusers as they are read from folders and the hub, before a family wraps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..._util.errors import InputError
from ..._util.pickles import refuse_folders_of_pickles
from ..._util.text import shown


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
    options |= {"revision": revision, "variant": variant, "dtype": dtype}
    try:
        pipeline = load(source, use_safetensors=True, **options)
    except Exception as error:  # diffusers, safetensors and the hub client each raise their own kinds
        refuse_pickles_of(source, revision)
        raise InputError(f"Cannot load {str(source)!r} as a diffusers pipeline ({reason(error)}).") from error
    refuse_lost(pipeline, source)
    return pipeline


def refuse_lost(pipeline: Any, source: str | Path) -> None:  # noqa: ANN401  (of diffusers)
    """Tell which weights the files of a pipeline do not hold.

    Raises:
        InputError: there are such weights.
    """
    for name, part in pipeline.components.items():
        state = part.state_dict() if isinstance(part, nn.Module) else {}
        # diffusers leaves them without values
        if lost := [key for key, value in state.items() if value.is_meta]:
            raise InputError(
                f"{shown(Path(source))} lacks {len(lost)} tensors of the {name}, such as {lost[0]}."
            )


def refuse_pickles_of(source: str | Path, revision: str | None, subfolder: str = "") -> None:
    """Tell whether a model could not be loaded because its weights are pickles.

    Args:
        source: folder, or id of a repository of the hub.
        revision: of the repository.
        subfolder: of the repository that counts.

    Raises:
        InputError: so it is, or the repository cannot be read at all.
    """
    folder = Path(source)
    if folder.exists():
        names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
        way_out = f"`sgrace convert {source} -o {folder.name}-safetensors` writes it as safetensors"
    else:
        from huggingface_hub import list_repo_files  # noqa: PLC0415  (only for the hub)

        try:
            found = list_repo_files(str(source), revision=revision)
        except Exception as error:  # the client raises many kinds of its own
            raise InputError(f"Cannot read {str(source)!r} on the hub ({reason(error)}).") from error
        names = [name for name in found if name.startswith(subfolder)]
        way_out = "download it, and `sgrace convert` the folder to safetensors"
    refuse_folders_of_pickles(names, str(source), way_out)


def reason(error: Exception) -> str:
    """The beginning of another library's message, on one line."""
    return " ".join(str(error).split())[:160]
