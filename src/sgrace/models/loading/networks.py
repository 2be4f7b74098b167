"""Single networks in the place of a pipeline's own: from folders, the hub, or files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor, nn

from ..._util.errors import InputError
from ..._util.tensors import POSITIONS
from ..._util.text import shown
from ..families._folder import Held, check_part, no_larger_than
from ..families._pipelines import reason, refuse_pickles_of, whole
from ..families._quiet import quiet_libraries
from ..sharing import shared_copy
from .sources import Source, read_tensors

#: Where a UNet stands in a whole model of its original code.
_IN_WHOLE = "model.diffusion_model."


def load_component(source: str | Path, like: nn.Module, *, may_lack: bool = False) -> nn.Module:
    """A network of the same class and sizes as a model's own, frozen.

    Args:
        source: folder, hub id with or without a sub-folder, or a safetensors file.
        like: the model's own network.
        may_lack: whether a file may hold some of the weights only, as published erasures of denoisers do: the
            others are the model's own.

    Raises:
        InputError: there is none, it is a pickle, it lacks weights, or it has other sizes.
    """
    place = Source.parse(str(source))
    with quiet_libraries():
        if place.is_model:
            found = _pretrained(place, like)
        else:
            found = _with_file(place.file(), like, may_lack=may_lack)
    return found.eval().requires_grad_(requires_grad=False)


def _pretrained(place: Source, like: nn.Module) -> nn.Module:
    """A whole network from a folder or the hub."""
    # no pickles: loading one runs code
    options: dict[str, Any] = {"use_safetensors": True, "dtype": next(like.parameters()).dtype}
    kind: Any = type(like)
    # no more than the model's own network: another one would not fit
    sizes = [value.numel() for value in like.state_dict().values()]
    try:
        options["variant"] = _variant_of(_names(place))
        folder = place.local
        if folder is None:
            snapshot = _with_settings(place)
            folder = snapshot / place.path
            # the commit whose settings were looked at, whatever the hub has meanwhile
            options |= {"subfolder": place.path, "revision": snapshot.name}
        check_part(folder, options["variant"])
        with no_larger_than(Held(len(sizes), sum(sizes)), place.name):
            found = whole(kind, place.local or place.repo, place.name, options)
        if place.local is None:
            check_part(folder, options["variant"])  # now with its weights
    except InputError:
        raise
    except Exception as error:  # each library raises its own kinds
        refuse_pickles_of(place.local or place.repo, place.revision, place.path)
        raise InputError(f"Cannot load {place.name} as a {kind.__name__} ({reason(error)}).") from error
    # shapes by name: the class alone does not say the sizes
    own = {name: value.shape for name, value in like.state_dict().items()}
    other = {name: value.shape for name, value in found.state_dict().items()}
    if wrong := next((name for name in own if own[name] != other.get(name)), None):
        raise _misfit(place.name, wrong, other.get(wrong, ()), own[wrong])
    return found


def _names(place: Source) -> list[str]:
    """Names of the files in a folder, or in one of the hub; none of the hub where it cannot be asked."""
    if place.local is not None:
        return [file.name for file in place.local.iterdir()]
    from huggingface_hub import list_repo_files  # noqa: PLC0415  (only for the hub)

    try:
        paths = [PurePosixPath(path) for path in list_repo_files(place.repo, revision=place.revision)]
    except Exception:  # noqa: BLE001  (without a network, what was downloaded before can still be loaded)
        return []
    return [path.name for path in paths if path.parent == PurePosixPath(place.path)]


def _with_settings(place: Source) -> Path:
    """The folder of a commit of the hub with the settings of a part, but without its weights.

    The libraries follow settings, which may name code and other models, while they load.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (only for the hub)

    settings = str(PurePosixPath(place.path) / "*.json")
    return Path(snapshot_download(place.repo, revision=place.revision, allow_patterns=settings))


def _variant_of(names: Iterable[str]) -> str | None:
    """The variant of a folder without plain weights: ``fp16`` of ``model.fp16.safetensors``, or of shards."""
    stems = [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")]
    found = {stem.split(".")[1].split("-")[0] if "." in stem else None for stem in stems}
    return found.pop() if len(found) == 1 else None


def _with_file(file: Path, like: nn.Module, *, may_lack: bool) -> nn.Module:
    """The model's own network with the weights of a file in place."""
    given = {name: value for name, value in read_tensors(file).items() if not name.endswith(POSITIONS)}
    own = dict(like.named_parameters(remove_duplicate=False))
    tensors = _under_own_names(given, like.state_dict())
    if tensors is None:
        return _original_layout(file, given, like)
    # a parameter may have several names, and what is none, such as positions, is the same in every file
    first_names = {id(parameter): name for name, parameter in like.named_parameters()}
    changed = {}
    for name in tensors.keys() & own.keys():
        if tensors[name].shape != own[name].shape:
            raise _misfit(str(file), name, tensors[name].shape, own[name].shape)
        changed[first_names[id(own[name])]] = tensors[name].to(own[name])
    if not may_lack and (lost := sorted(first_names.values() - changed.keys())):
        kind = type(like).__name__
        raise InputError(f"{shown(file)} lacks {len(lost)} tensors of a {kind}, such as {lost[0]}.")
    return shared_copy(like, changed)


def _under_own_names(given: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor] | None:
    """The tensors by the network's own names: a prefix that all of them share is dropped.

    None if there are names that the network does not have.
    """
    known = set(own)
    first = next(iter(given), "")
    # "unet.conv_in.weight" has the prefixes "", "unet." and "unet.conv_in."
    for i in [0, *(i + 1 for i, letter in enumerate(first) if letter == ".")]:
        prefix = first[:i]
        if given and all(name.startswith(prefix) and name[i:] in known for name in given):
            return {name[i:]: value for name, value in given.items()}
    return None


def _original_layout(file: Path, given: Mapping[str, Tensor], like: nn.Module) -> nn.Module:
    """A whole network in the layout of its original code, which diffusers converts."""
    kind: Any = type(like)
    strange = next(iter(given), "nothing")
    if "input_blocks.0.0.weight" in given:  # the UNet alone, without its place in a whole model
        given = {f"{_IN_WHOLE}{name}": value for name, value in given.items()}
    refusal = InputError(f"{file} does not fit the model: its {kind.__name__} has no {strange[:80]}.")
    if not hasattr(kind, "from_single_file"):
        raise refusal
    config: Any = like
    dtype = next(like.parameters()).dtype
    try:
        with tempfile.TemporaryDirectory() as folder:
            config.save_config(folder)
            found: nn.Module = kind.from_single_file(dict(given), config=folder, dtype=dtype)
    except Exception as error:  # diffusers fails in many ways on what it cannot convert
        raise refusal from error
    if any(value.is_meta for value in found.state_dict().values()):
        raise refusal
    return found


def _misfit(source: str, name: str, found: Iterable[int], own: Iterable[int]) -> InputError:
    shapes = f"{list(found)}, not {list(own)}"
    return InputError(f"{source} does not fit the model: {name} has the shape {shapes}.")
