"""A changed text encoder as a folder of transformers, which other programs load in place of the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from .._util.errors import InputError
from .._util.tensors import check_tensors, save_tensors
from .._util.text import read_json
from ..models.text import TextEncoder
from ..models.text_files import own_names, publish_tokenizer, published_names
from .int8 import packed, read_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

WEIGHTS = "model.safetensors"
#: Class of a network in transformers, as a folder's config names it -> the class of its tokenizer.
TOKENIZERS = {
    "CLIPTextModel": "CLIPTokenizer",
    "CLIPTextModelWithProjection": "CLIPTokenizer",
    "T5EncoderModel": "T5Tokenizer",
    "Qwen3Model": "Qwen2Tokenizer",
    "Qwen3ForCausalLM": "Qwen2Tokenizer",
}
#: Largest whole number in a config. Vocabularies end at 300,000; a longer list of classes would fill memory.
MAX_SIZE = 1_000_000


@dataclass(frozen=True)
class TextFolder:
    """What a text encoder's folder holds beside its weights.

    Attributes:
        config: of transformers; it names its architecture.
        tokenizer: saved beside the weights, if there is one.
    """

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase | None = None

    @classmethod
    def of(cls, encoder: TextEncoder) -> Self:
        """That of a model's own text encoder."""
        config: Any = copy.deepcopy(encoder.module.config)
        config.architectures = [type(encoder.module).__name__]
        return cls(config, encoder.tokenizer)

    def save(
        self,
        folder: Path,
        tensors: Mapping[str, Tensor],
        *,
        small: bool = False,
        header: Mapping[str, str] | None = None,
    ) -> None:
        """Write config, weights (``small``: in int8) with a header, and tokenizer."""
        folder.mkdir(exist_ok=True)
        config = copy.deepcopy(self.config)
        config.dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        config.save_pretrained(folder)
        named = published_names(tensors)
        told = {"format": "pt", **(header or {})}
        save_tensors(folder / WEIGHTS, packed(named) if small else named, told)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
            publish_tokenizer(folder)


class ReadTextFolder(NamedTuple):
    """A text encoder that was read: all of its tensors, and the rest of its folder."""

    tensors: dict[str, Tensor]
    folder: TextFolder


def read_text_folder(folder: Path) -> ReadTextFolder:
    """Read a text encoder's folder and check that its weights are all that its config asks for.

    Raises:
        InputError: config, weights or tokenizer cannot be read or do not belong together.
    """
    tensors = read_weights(folder / WEIGHTS)
    raw = read_json(folder / "config.json", max_bytes=MAX_SIZE)
    kinds = raw.get("architectures") if isinstance(raw, dict) else None
    kind = kinds[0] if isinstance(kinds, list) and kinds else None
    if not isinstance(kind, str) or kind not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        raise InputError(
            f"{folder / 'config.json'}: architectures must name one of {known}, not {str(kinds)[:60]}."
        )
    import transformers  # noqa: PLC0415  (slow to import)

    network = getattr(transformers, kind)
    _check_sizes(raw, len(tensors), folder)
    try:
        config = network.config_class.from_dict(_plain_settings(raw))
        with torch.device("meta"):  # shapes only: nothing is allocated
            skeleton: nn.Module = network(config)
    except Exception as error:  # transformers and torch raise their own kinds for settings that make no sense
        raise InputError(f"{folder / 'config.json'} describes no {kind} ({_reason(error)}).") from error
    shapes = {name: value.shape for name, value in skeleton.named_parameters()}
    tensors = own_names(tensors, shapes)
    check_tensors(tensors, shapes, f"The text encoder in {folder}")
    if extra := sorted(tensors.keys() - shapes.keys()):
        raise InputError(f"The text encoder in {folder} has no place for the tensor {extra[0][:80]!r}.")
    config.architectures = [kind]
    return ReadTextFolder(
        tensors, TextFolder(config, _tokenizer(folder, getattr(transformers, TOKENIZERS[kind])))
    )


def _check_sizes(raw: Mapping[str, Any], n_tensors: int, folder: Path) -> None:
    """Refuse sizes that would take all memory or time before any weight is looked at."""
    for name, value in raw.items():
        # every layer has tensors, so there are never more layers than tensors
        limit = n_tensors if "layers" in name else MAX_SIZE
        if isinstance(value, int) and abs(value) > limit:
            raise InputError(
                f"{folder / 'config.json'}: {name} is {str(value)[:20]}, its weights allow {limit:,} at most."
            )


def _plain_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that choose other code than the architecture's own."""
    return {name: value for name, value in raw.items() if "implementation" not in name and name != "auto_map"}


def _tokenizer(folder: Path, kind: Any) -> PreTrainedTokenizerBase | None:  # noqa: ANN401  (a class)
    if not (folder / "tokenizer_config.json").is_file():
        return None
    try:
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(folder)
    except BaseException as error:  # the Rust side of tokenizers panics with what is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise InputError(f"The tokenizer in {folder} cannot be read ({_reason(error)}).") from error
    return tokenizer


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
