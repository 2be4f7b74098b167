"""Pipelines of diffusers as they are read from folders and the hub, before a family wraps them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import nn

from ..._util.errors import InputError
from ..._util.pickles import refuse_folders_of_pickles
from ..._util.text import read_json, shown
from ._folder import check_index, check_pipeline, no_larger_than, weight_files

#: Longest message of another library.
MAX_REASON = 200
#: Where the first sentence of a message ends.
_SENTENCE = re.compile(r"(?<=[\w)\]'\"`])[.!?:;]? (?=[A-Z][a-z])")


def pipeline_class(source: str | Path, revision: str | None) -> str | None:
    """The class that a pipeline's index names.

    Raises:
        InputError: there is no index, it cannot be read, or it is no JSON object.
    """
    path = Path(source)
    # a local folder is never looked up on the hub
    index = path / "model_index.json" if path.exists() else _downloaded_index(str(source), revision)
    if not index.is_file():
        raise InputError(f"{path} is not a diffusers pipeline folder: it has no model_index.json.")
    named = read_json(index)
    if not isinstance(named, dict):
        raise InputError(f"{shown(index)} is no index of a pipeline: it must be a JSON object.")
    return str(named.get("_class_name"))


def _downloaded_index(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  (only for the hub)

    try:
        return Path(hf_hub_download(hub_id, "model_index.json", revision=revision))
    except Exception as error:  # the client raises many kinds of its own
        raise InputError(f"Cannot load {hub_id!r} as a diffusers pipeline ({reason(error)}).") from error


def downloaded_settings(hub_id: str) -> Path:
    """A folder with the settings and tokenizers of a pipeline of the hub, without its weights.

    Raises:
        InputError: they cannot be downloaded, or it is no pipeline.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only for the hub)

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.txt", "*.model"]))
    except Exception as error:  # the client raises many kinds of its own
        raise InputError(f"Cannot download the settings of {hub_id!r} ({reason(error)}).") from error
    if not (folder / "model_index.json").is_file():
        raise InputError(f"Cannot take settings of {hub_id!r}: it is no pipeline of diffusers.")
    return folder


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

    kind: Any = DiffusionPipeline
    # what looks at finished images is not needed, and published folders often lack it
    options: dict[str, Any] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    where = {"revision": revision, "variant": variant, "use_safetensors": True}
    folder = Path(source)
    try:
        if not folder.exists():
            folder = Path(kind.download(str(source), **where, **options))
        held = check_pipeline(folder, variant)
        with no_larger_than(held, source):
            options |= _of_transformers(folder, dtype, variant)
            pipeline = kind.from_pretrained(folder, **where, **options, dtype=dtype)
    except InputError:
        refuse_pickles_of(source, revision)
        raise
    except Exception as error:  # diffusers, safetensors and the hub client each raise their own kinds
        refuse_pickles_of(source, revision)
        raise InputError(f"Cannot load {str(source)!r} as a diffusers pipeline ({reason(error)}).") from error
    refuse_lost(pipeline, source)
    _refuse_other_classes(pipeline, source)
    return pipeline


def _of_transformers(folder: Path, dtype: torch.dtype, variant: str | None) -> dict[str, Any]:
    """The text encoders and tokenizers of a pipeline's folder, by component, and None for parts left out.

    Raises:
        InputError: files lack some weights of a text encoder, or a tokenizer cannot be read.
    """
    import transformers  # noqa: PLC0415  (slow to import)

    index = read_json(folder / "model_index.json")
    # diffusers wants to be told of them, though its own index says so
    found: dict[str, Any] = {name: None for name, entry in index.items() if entry == [None, None]}
    for part in check_index(folder):
        library, name = index[part.name]
        kind: Any = getattr(transformers, name, None) if library == "transformers" else None
        if not isinstance(kind, type):
            continue
        if issubclass(kind, transformers.PreTrainedTokenizerBase):
            found[part.name] = _tokenizer(kind, part)
        elif issubclass(kind, transformers.PreTrainedModel):
            options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
            if variant and any(f".{variant}" in file.name for file in weight_files(part, variant)):
                options["variant"] = variant
            found[part.name] = whole(kind, part, shown(part), options)
    return found


def _tokenizer(kind: Any, folder: Path) -> Any:  # noqa: ANN401  (of transformers)
    """The tokenizer of a folder."""
    try:
        return kind.from_pretrained(folder)
    except BaseException as error:  # the Rust side of tokenizers panics with what is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(f"The tokenizer in {shown(folder)} cannot be read ({reason(error)}).") from error


def whole(kind: Any, place: str | Path, what: str, options: Mapping[str, Any]) -> nn.Module:  # noqa: ANN401
    """A network of diffusers or transformers all of whose weights are in its files.

    Args:
        kind: its class.
        place: folder or hub id.
        what: it is, at the start of the error's sentence.
        options: of ``from_pretrained``.

    Raises:
        InputError: files lack some of its weights, for which the libraries make up values, or hold others.
    """
    told: dict[str, Any]
    network, told = kind.from_pretrained(
        place, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    for name, found, own in sorted(told["mismatched_keys"]):
        raise InputError(f"{what}: tensor {name} has the shape {list(found)}, not {list(own)}.")
    if missing := sorted(told["missing_keys"]):
        raise InputError(f"{what} lacks {len(missing)} tensors of a {kind.__name__}, such as {missing[0]}.")
    whole_network: nn.Module = network
    return whole_network


def _refuse_other_classes(pipeline: Any, source: str | Path) -> None:  # noqa: ANN401  (of diffusers)
    """Tell which networks are of another class than the pipeline has; of autoencoders there are several."""
    for name, kind in get_type_hints(type(pipeline).__init__).items():
        part = pipeline.components.get(name)
        if isinstance(part, nn.Module) and name != "vae" and not isinstance(part, kind):
            raise InputError(
                f"{shown(Path(source))}: its {name} is of the class {type(part).__name__}, not "
                f"{kind.__name__}."
            )


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


def reason(error: BaseException) -> str:
    """The first sentence of another library's message, on one line and without what ends a sentence."""
    first = _SENTENCE.split(" ".join(str(error).split()), maxsplit=1)[0].rstrip(".:; ")
    return first if len(first) <= MAX_REASON else f"{first[:MAX_REASON].rpartition(' ')[0]} ..."
