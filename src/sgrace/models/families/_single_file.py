"""Pipelines in one file, in the layout of the code that trained them."""

from __future__ import annotations

import gzip
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    LDM_UNET_KEY,
    infer_diffusers_model_type,
)
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ..._util.errors import InputError, InputWarning
from ..._util.tensors import stored
from ..._util.text import shown
from ..single_file import SingleFile
from ._folder import UNUSED, check_index, check_settings, held_by, no_larger_than
from ._pipelines import downloaded_settings, pipeline_class, reason, refuse_lost

MERGES = Path(__file__).parent / "_clip_tokenizer" / "merges.txt.gz"


class Found(NamedTuple):
    """Where the configuration of a file is, and the parts of the pipeline that are no files there."""

    pipeline: str | None
    config: str
    parts: Mapping[str, Any]


def load_single_file(path: Path, found: Found, dtype: torch.dtype) -> Any:  # noqa: ANN401  (of diffusers)
    """The diffusers pipeline of a checkpoint in one file.

    Raises:
        InputError: it cannot be read, or lacks weights.
    """
    kind: Any = getattr(diffusers, str(found.pipeline))
    try:
        with no_larger_than(held_by([path]), path):
            pipeline = kind.from_single_file(str(path), config=found.config, dtype=dtype, **found.parts)
    except InputError:
        raise
    except Exception as error:  # diffusers fails in many ways on what is no such checkpoint
        raise InputError(
            f"Cannot load {shown(path)} as a {found.pipeline} in one file ({reason(error)})."
        ) from error
    refuse_lost(pipeline, path)
    return pipeline


@contextmanager
def configuration(path: Path, config: str | None, known: Mapping[str, SingleFile]) -> Iterator[Found]:
    """The configuration of a checkpoint: as it is given, or of the published model that the file holds.

    Args:
        path: safetensors file.
        config: folder or hub id of a pipeline; found by the file's own tensors, if absent.
        known: configurations of the families, by what diffusers calls their models.

    Raises:
        InputError: the file is none, or holds something else than a model whose configuration is built in.
    """
    if config is not None:
        folder = Path(config) if Path(config).exists() else downloaded_settings(config)
        pipeline = pipeline_class(folder, None)
        for part in check_index(folder):
            check_settings(part)
        # what looks at finished images is not needed, and folders often lack it
        yield Found(pipeline, str(folder), dict.fromkeys(UNUSED))
        return
    kind = kind_of(path)
    single = known.get(kind)
    if single is None:
        place = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
        raise InputError(
            f"{shown(path)} is a {kind} checkpoint, whose configuration is not built in: name a folder or "
            f"hub id of such a pipeline with --config, such as {place}."
        )
    if single.unknown:
        warnings.warn(f"{shown(path)}: {single.unknown}", InputWarning, stacklevel=2)
    with tempfile.TemporaryDirectory() as written:
        single.write(Path(written))
        tokenizers = {name: clip_tokenizer(padding) for name, padding in single.tokenizers.items()}
        yield Found(single.pipeline, written, tokenizers)


def kind_of(path: Path) -> str:
    """What diffusers calls the model of a checkpoint, by the names and shapes of its tensors.

    Raises:
        InputError: it is no whole model.
    """
    # shapes only: nothing is allocated
    shapes = {name: torch.empty(tensor.shape, device="meta") for name, tensor in stored(path).items()}
    try:
        kind = str(infer_diffusers_model_type(shapes))
    except Exception as error:  # it looks at sides that a tensor of another shape does not have
        why = f"tensors by which a model is known have other shapes ({reason(error)})"
        raise InputError(f"{shown(path)} is damaged: {why}.") from error
    # diffusers takes whatever it does not know for its first kind
    if kind == "v1" and not any(name.startswith(LDM_UNET_KEY) for name in shapes):
        raise InputError(
            f"{shown(path)} is no whole model in one file: weights of a denoiser belong to --denoiser, those "
            "of a text encoder to --text-encoder, and a LoRA to --lora."
        )
    return kind


def clip_tokenizer(padding: str) -> CLIPTokenizer:
    """CLIP's own tokenizer, with the padding token of a model."""
    vocabulary, merges = _vocabulary()
    return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), pad_token=padding, model_max_length=77)


class _Vocabulary(NamedTuple):
    ids: dict[str, int]
    merges: list[Any]  # pairs, which transformers reads and does not name


@cache
def _vocabulary() -> _Vocabulary:
    """Bytes, bytes that end a word, what each merge makes, and two special tokens: 49,408 in this order."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").strip().split("\n")
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return _Vocabulary({token: i for i, token in enumerate(tokens)}, merges)
