"""The layout of the code that trained a network: how its tensors are made of those of diffusers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: What is done with a tensor: nothing, its halves change places, a matrix becomes a convolution, or it is
#: transposed.
How = Literal["", "swapped", "convolution", "transposed"]


class Original(NamedTuple):
    """A tensor of the original layout.

    Attributes:
        sources: tensors of diffusers' layout that stand in it one after the other, on the first axis.
        how: what is done with them then.
    """

    sources: tuple[str, ...]
    how: How = ""


#: Names of the original layout with what they are made of.
Layout = Mapping[str, Original]


def to_original(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Tensors of diffusers' layout in the original one, in their own precision.

    Raises:
        KeyError: one is missing.
    """
    return {name: _made(original, tensors) for name, original in layout.items()}


def _made(original: Original, tensors: Mapping[str, Tensor]) -> Tensor:
    parts = [tensors[name] for name in original.sources]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    if original.how == "swapped":
        # shift and scale stand the other way round: (2 n, ...) -> (2 n, ...)
        return torch.cat(whole.chunk(2)[::-1])
    if original.how == "convolution":
        # a kernel of one pixel: (out, in) -> (out, in, 1, 1)
        return whole[:, :, None, None]
    return whole.T if original.how == "transposed" else whole


def renamed(names: Iterable[str], rename: Callable[[str], str]) -> dict[str, Original]:
    """A layout in which every tensor has another name and is nothing but itself."""
    return {rename(name): Original((name,)) for name in names}


def gathered(
    names: Iterable[str], table: Mapping[str, str], start: str = "", own: str = ""
) -> dict[str, Original]:
    """A layout by modules, as far as their tensors are among ``names``.

    Args:
        names: of diffusers' layout.
        table: module of the original layout -> modules of diffusers, separated by spaces, that stand in it
            one after the other.
        start: before the names of the original modules.
        own: before the names of diffusers' modules.
    """
    known = set(names)
    layout = {}
    for module, sources in table.items():
        for leaf in ("weight", "bias"):
            found = tuple(f"{own}{source}.{leaf}" for source in sources.split())
            if known.issuperset(found):
                layout[f"{start}{module}.{leaf}"] = Original(found)
    return layout


def swapped(layout: Layout, module: str) -> dict[str, Original]:
    """The layout with the halves of a module's tensors exchanged: originally shift stands before scale."""
    return {
        name: original._replace(how="swapped") if name.startswith(module) else original
        for name, original in layout.items()
    }


def prefixed(layout: Layout, start: str) -> dict[str, Original]:
    """The layout with a beginning before each name, as the network stands in a larger file."""
    return {f"{start}{name}": original for name, original in layout.items()}
