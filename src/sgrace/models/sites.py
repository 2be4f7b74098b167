"""Sites: where a family's denoiser can be changed or watched, under names that every method knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .._util.errors import unknown


@dataclass(frozen=True)
class AttentionLayer:
    """A layer that reads the text, and the parts of it that attention maps are made from.

    Attributes:
        module: the whole layer; its output is what the layer adds.
        query, key: projections whose outputs are ``(batch, places, heads * width)``.
        heads: number of heads.
        width: size of the layer's output.
    """

    module: nn.Module
    query: nn.Module
    key: nn.Module
    heads: int
    width: int


def unchanged(_denoiser: nn.Module, prompt_embeds: Tensor) -> Tensor:
    """The prompt embeddings themselves."""
    return prompt_embeds


@dataclass(frozen=True)
class DenoiserMap:
    """What a family says of its denoisers.

    Attributes:
        groups: site -> whether a parameter, by name, belongs to it.
        text_attention: the layers that read the text, by name.
        prompt_embeds_of: the prompt embeddings among the arguments of a call of the denoiser.
        before_inlet: what the linear layer of the inlet reads of prompt embeddings ``(n, width)``.
    """

    groups: Mapping[str, Callable[[str], bool]]
    text_attention: Callable[[nn.Module], dict[str, AttentionLayer]]
    prompt_embeds_of: Callable[[tuple[Any, ...], Mapping[str, Any]], Tensor]
    before_inlet: Callable[[nn.Module, Tensor], Tensor] = unchanged


@dataclass(frozen=True)
class Sites:
    """The sites of one denoiser, by name.

    ``text_kv``, ``text_attention``, ``attention``, ``self_attention``, ``transformer``, ``all`` ...
    """

    denoiser: nn.Module
    map: DenoiserMap

    def names(self, site: str) -> list[str]:
        """Names of the parameters of a site, in the denoiser's order.

        Raises:
            InputError: there is no such site.
        """
        if site not in self.map.groups:
            raise unknown("site", site, self.map.groups)
        # in the denoiser's order, whatever the rule: optimizers and seeds depend on it
        return [name for name, _ in self.denoiser.named_parameters() if self.map.groups[site](name)]

    def parameters(self, site: str) -> dict[str, Tensor]:
        """The parameters of a site by name, without gradients."""
        return {name: self.denoiser.get_parameter(name).detach() for name in self.names(site)}

    def matrices(self, site: str) -> dict[str, Tensor]:
        """The matrices of a site by name: its parameters without biases and norms."""
        return {name: value for name, value in self.parameters(site).items() if value.ndim == 2}

    def read(self, site: str, prompt_embeds: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """What the matrices of a site that reads the text get of prompt embeddings, in float32."""
        if site != "inlet":
            return prompt_embeds
        return self.map.before_inlet(self.denoiser, prompt_embeds).float()

    def layers(self, site: str) -> dict[str, nn.Linear | nn.Conv2d]:
        """The linear and convolution layers of a site by name."""
        inside = self.map.groups[site]
        return {
            name: layer
            for name, layer in self.denoiser.named_modules()
            # a layer belongs to a site if its weight does
            if isinstance(layer, nn.Linear | nn.Conv2d) and inside(f"{name}.weight")
        }

    def text_attention(self) -> dict[str, AttentionLayer]:
        """The layers that read the text, by name."""
        return self.map.text_attention(self.denoiser)
