"""What the files of a model's folder say, looked at before a network is built or a weight is read."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..._util.errors import InputError
from ..._util.pickles import refuse_pickle
from ..._util.tensors import stored
from ..._util.text import check_regular_file, read_json, shown

#: Names of a network's and a scheduler's settings.
CONFIGS = ("config.json", "scheduler_config.json")
#: What looks at finished images; it is not loaded.
UNUSED = ("safety_checker", "feature_extractor")
#: Libraries whose classes a pipeline's index may name.
LIBRARIES = ("diffusers", "transformers")
#: Largest whole number among settings. Vocabularies end at 300,000; longer lists would fill memory.
MAX_NUMBER = 1_000_000
#: Settings with another limit: a frequency, which is no size, and the side of a table that is made at once
#: (published are 192 and 384).
LIMITS = {"rope_theta": math.inf, "pos_embed_max_size": 1024}
#: How often a parameter may be made for each that a file holds: when it is built, when it is filled, and when
#: it is tied to another one; fused matrices of other programs become three.
TIMES = 4
#: Tensors that a small network may have beyond that, so that what its files lack is told by name.
MORE = 1000


class Held(NamedTuple):
    """How much the files of a model hold."""

    tensors: int = 0
    elements: int = 0


def check_pipeline(folder: Path, variant: str | None) -> Held:
    """Check the folder of a pipeline, and tell how much its files hold.

    Args:
        folder: with an index.
        variant: of the weight files.

    Raises:
        InputError: as :func:`check_index` and :func:`check_part`, or a network has no files of weights.
    """
    held = []
    for part in check_index(folder):
        if not part.is_dir():
            raise InputError(f"Cannot load {shown(folder)}: it has no folder {part.name[:40]}.")
        held.append(check_part(part, variant))
        if not held[-1].tensors and (part / "config.json").is_file() and "tokenizer" not in part.name:
            raise _without_weights(part)
    return Held(sum(one.tensors for one in held), sum(one.elements for one in held))


def check_index(folder: Path) -> list[Path]:
    """The folders of the parts that a pipeline's index names.

    Raises:
        InputError: the index asks for code of the folder's own.
    """
    file = folder / "model_index.json"
    found = []
    for name, entry in read_json(file).items():
        is_part = isinstance(entry, list) or (folder / name).is_dir()
        # options of the pipeline are no parts, and a part that is left out is [null, null]
        if name in UNUSED or not is_part or entry == [None, None]:
            continue
        named = entry if isinstance(entry, list) and len(entry) == 2 else [None, None]
        # diffusers would look for a library of this name in the part's folder first
        own_code = folder / name / f"{named[0]}.py"
        if named[0] not in LIBRARIES or not isinstance(named[1], str) or own_code.is_file():
            raise InputError(
                f"{shown(file)} asks for code of its own for the {name[:40]} ({str(entry)[:60]}), which is "
                "never run; load a pipeline of the classes of diffusers and transformers."
            )
        found.append(folder / name)
    return found


def check_part(folder: Path, variant: str | None) -> Held:
    """Check the folder of a network, a tokenizer or a scheduler, and tell how much its files hold.

    Raises:
        InputError: as :func:`check_settings`, or a file of weights is a pickle, damaged, or holds something
            else than floating-point numbers.
    """
    check_settings(folder)
    for index in folder.glob("*.safetensors.index*.json"):
        _check_shards(index)
    for file in weight_files(folder, variant):
        refuse_pickle(file)
    return held_by(weight_files(folder, variant))


def check_settings(folder: Path) -> None:
    """Check the settings of a network, a tokenizer or a scheduler.

    Raises:
        InputError: they ask for other code, another model, quantised weights or absurd sizes, or beside them
            is something that is neither file nor folder.
    """
    for file in folder.iterdir():
        # the libraries would open a pipe and wait for ever; a link to nothing is as if it were not there
        if file.exists() and not file.is_dir() and not file.is_file():
            check_regular_file(file, "a file of a model")
    for name in (*CONFIGS, "tokenizer_config.json"):
        if (folder / name).is_file():
            _check_config(folder / name)
    if (folder / "adapter_config.json").is_file():  # it may name any other model, which would be loaded
        raise InputError(f"{shown(folder)} holds an adapter beside a network; give the adapter to --lora.")


def held_by(files: Iterable[Path]) -> Held:
    """How much files of weights hold.

    Raises:
        InputError: as :func:`stored`.
    """
    sizes = [tensor.elements for file in files for tensor in stored(file).values()]
    return Held(len(sizes), sum(sizes))


def weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The safetensors files of a variant; the plain ones, where there is no variant or none is asked for."""
    files = sorted(folder.glob("*.safetensors"))
    # "model.fp16.safetensors", and "model.fp16-00001-of-00002.safetensors" or "model-00001-of-00002.fp16..."
    own = [file for file in files if variant and f".{variant}" in file.name]
    return own or [file for file in files if "." not in file.stem]


@contextmanager
def no_larger_than(held: Held, source: str | Path) -> Iterator[None]:
    """Stop the building of networks with far more parameters than files hold, whatever their settings say.

    Raises:
        InputError: the code inside makes such a network.
    """
    made = elements = 0
    thread = threading.get_ident()

    def count(_module: nn.Module, _name: str, parameter: torch.Tensor | None) -> None:
        nonlocal made, elements
        if parameter is None or threading.get_ident() != thread:
            return
        made += 1
        elements += parameter.numel()
        if made > TIMES * held.tensors + MORE or elements > TIMES * (held.elements + MAX_NUMBER):
            raise InputError(
                f"{shown(Path(source))}: its configuration asks for a far larger network than its files hold "
                f"({held.tensors:,} tensors of {held.elements:,} numbers in all)."
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _without_weights(part: Path) -> InputError:
    others = sorted(part.glob("*.safetensors"))
    variant = others[0].stem.split(".")[1].split("-")[0] if others else ""
    advice = f"; it has a variant: --variant {variant}" if variant else ""
    return InputError(f"Cannot load {shown(part)}: it has no weights in safetensors files{advice}.")


def _check_shards(file: Path) -> None:
    """Check that the weights of a sharded network are safetensors files beside their index."""
    index = read_json(file)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise InputError(f"{shown(file)} is damaged: it has no weight_map.")
    for shard in shards.values():
        name = str(shard)
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(
                f"{shown(file)} names {name[:60]!r}, which is no safetensors file of its folder."
            )


def _check_config(file: Path) -> None:
    config = read_json(file)
    if not isinstance(config, dict):
        raise InputError(f"{shown(file)} is no configuration: it must be a JSON object.")
    if asked := next((name for name, value in _settings(config) if _asks_for_code(name, value)), None):
        raise InputError(
            f"{shown(file)} asks for code of its own ({asked[:40]}), which is never run; load a model of the "
            "libraries' own classes."
        )
    if "quantization_config" in config:
        raise InputError(f"{shown(file)} asks for quantised weights; load a model in half precision.")
    if file.name not in CONFIGS:
        return
    for name, value in _settings(config):
        limit = LIMITS.get(name, MAX_NUMBER)
        if isinstance(value, int) and abs(value) > limit:
            raise InputError(f"{shown(file)}: {name[:40]} is {str(value)[:20]}, more than {limit:,}.")


def _asks_for_code(name: str, value: Any) -> bool:  # noqa: ANN401  (JSON)
    """Whether a setting names code elsewhere: classes of the folder's own, or kernels of the hub."""
    is_kernel = name.endswith("_implementation") and "/" in str(value)
    return is_kernel or name == "auto_map" or (name == "trust_remote_code" and bool(value))


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting, also of settings inside settings; those of a list have the name of the list."""
    left: list[tuple[str, Any]] = list(config.items())
    while left:
        name, value = left.pop()
        yield name, value
        if isinstance(value, Mapping):
            left += value.items()
        elif isinstance(value, list):
            left += [(name, each) for each in value]
