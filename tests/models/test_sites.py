"""Sites of the denoiser: which parameters they name, and the layers that read the text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sgrace._util.errors import InputError
from sgrace.models import DiffusionModel

from .made import tiny_model


@pytest.fixture(scope="module")
def shared() -> DiffusionModel:
    return tiny_model()


def layers_of(model: DiffusionModel, kind: str) -> set[str]:
    """Names of the parameters of the attention layers of one kind, found by what the layers read."""
    found = set()
    for name, module in model.denoiser.named_modules():
        if name.rpartition(".")[2] == kind:
            found |= {f"{name}.{parameter}" for parameter, _ in module.named_parameters()}
    return found


def test_sites_name_what_they_say(shared: DiffusionModel) -> None:
    every = [name for name, _ in shared.denoiser.named_parameters()]
    cross = layers_of(shared, "attn2")
    own = layers_of(shared, "attn1")
    expected = {
        "text_attention": cross,
        "self_attention": own,
        "attention": cross | own,
        "not_text_attention": set(every) - cross,
        "all": set(every),
        "text_kv": {n for n in cross if n.endswith(("to_k.weight", "to_v.weight"))},
        "text_k": {n for n in cross if n.endswith("to_k.weight")},
        "text_v": {n for n in cross if n.endswith("to_v.weight")},
    }
    for site, names in expected.items():
        found = shared.sites.names(site)
        assert set(found) == names, site
        assert found == [name for name in every if name in names], "in the denoiser's order"
        assert names, site
    modules = shared.denoiser.named_modules()
    blocks = {f"{name}." for name, module in modules if type(module).__name__ == "Transformer2DModel"}
    assert blocks
    assert set(shared.sites.names("transformer")) == {n for n in every if n.startswith(tuple(blocks))}


def test_the_matrices_that_read_the_text_have_its_width(shared: DiffusionModel) -> None:
    for value in shared.sites.parameters("text_kv").values():
        assert value.shape[1] == shared.text.main.width
        assert not value.requires_grad


def test_an_unknown_site_is_told_with_the_nearest(shared: DiffusionModel) -> None:
    with pytest.raises(InputError, match="text_kv"):
        shared.sites.names("text_kvs")


def test_layers_are_those_of_the_parameters(shared: DiffusionModel) -> None:
    for site in ("text_attention", "transformer", "all"):
        layers = shared.sites.layers(site)
        names = shared.sites.names(site)
        assert {f"{name}.weight" for name in layers} <= set(names)
        assert all(layer is shared.denoiser.get_submodule(name) for name, layer in layers.items())
    kinds = {type(layer) for layer in shared.sites.layers("all").values()}
    assert kinds == {torch.nn.Linear, torch.nn.Conv2d} or len(kinds) > 1


def test_the_layers_that_read_the_text_are_the_only_ones(shared: DiffusionModel) -> None:
    """Without what they add, the denoiser does not hear the prompt; with it, it does."""
    layers = shared.sites.text_attention()
    assert set(layers) == {name.rpartition(".to_k")[0] for name in shared.sites.names("text_k")}
    latents = shared.initial_noise([1])

    def difference() -> float:
        found = [
            shared.predict(latents, torch.tensor(500.0), shared.encode([text])) for text in ("church", "dog")
        ]
        return (found[0] - found[1]).abs().max().item()

    assert difference() > 1e-4
    hooks = [
        layer.module.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        for layer in layers.values()
    ]
    assert difference() == 0
    for hook in hooks:
        hook.remove()


def test_the_layers_tell_their_sizes(shared: DiffusionModel) -> None:
    sizes: dict[Any, torch.Size] = {}
    layers = list(shared.sites.text_attention().values())
    parts = [part for layer in layers for part in (layer.query, layer.key, layer.module)]
    hooks = [
        part.register_forward_hook(lambda m, _i, output: sizes.update({m: output.shape})) for part in parts
    ]
    shared.predict(shared.initial_noise([1]), torch.tensor(500.0), shared.encode(["church"]))
    for hook in hooks:
        hook.remove()
    for layer in layers:
        assert sizes[layer.module][-1] == layer.width
        assert sizes[layer.key][1] == shared.text.main.length
        assert sizes[layer.query][1] == sizes[layer.module][1]
        assert sizes[layer.query][-1] % layer.heads == 0


def test_prompt_embeds_are_found_however_they_are_given(shared: DiffusionModel) -> None:
    given = torch.ones(1, 2, 3)
    find = shared.denoiser_map.prompt_embeds_of
    assert find((None, None, given), {}) is given
    assert find((None, None), {"encoder_hidden_states": given}) is given
