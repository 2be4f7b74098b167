"""The parts of a model of any family: its networks, where they are, and copies with other parts."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .._util.device import autocast_for, out_of_memory, precision_of
from .._util.errors import InputError
from .conditioning import CPU
from .guidance import Guidance
from .half_on_cpu import compute_in_float32, is_native
from .needs import LACKS_IN, Need
from .origin import PLAIN, Origin
from .original import Layout
from .saving import save_whole
from .schedule import NoiseSchedule
from .sharing import shared_copy
from .single_file import SingleFile
from .sites import DenoiserMap, Sites
from .text_stack import TextStack

#: Images or latents that are sampled together where nobody says otherwise.
BATCH_SIZE = 32


@dataclass
class Calls:
    """Samples (rows) that went through the denoiser and the text encoders, and the calls they came in."""

    denoiser_calls: int = 0
    denoiser_rows: int = 0
    text_encoder_calls: int = 0
    text_encoder_rows: int = 0


@dataclass(kw_only=True)
class ModelParts(ABC):
    """The networks of a text-to-image model, and how they are placed, exchanged and saved.

    Frozen parts keep ``requires_grad=False`` and the model's ``dtype``.

    Attributes:
        source: name, folder or hub id it was loaded from.
        components: the networks by their name in the diffusers pipeline.
        text: the text encoders.
        schedule: how noise is added and removed.
        device, dtype: of the parts.
        origin: what was loaded beside the source, so that the model can be loaded again.
        testbed: name of the testbed that comes with the model, set by the loader.
        erasures: erasures that were applied, in order.
        guidance: what steers the sampling, where an erasure brings any.
        low_memory: only the network at work is on the device.
        batch_size: samples that are denoised or decoded together.
        threads: of the CPU; None to choose by the size of the denoiser.
        calls: what went through the networks.
        progress_bar_options: as in diffusers (``disable=True`` silences the bars).
    """

    family: ClassVar[str]
    #: Classes of diffusers pipelines that hold such a model.
    pipelines: ClassVar[tuple[str, ...]]
    #: Name of the denoiser among the components.
    denoiser_component: ClassVar[str]
    denoiser_map: ClassVar[DenoiserMap]
    #: Configurations of published models in one file, by what diffusers calls them.
    single_files: ClassVar[Mapping[str, SingleFile]] = {}
    #: Side of a token in latents; a UNet has none.
    patch_size: ClassVar[int] = 1
    #: What methods and attacks may need and no model of the family has.
    lacks: ClassVar[frozenset[Need]] = frozenset()

    source: str
    components: Mapping[str, nn.Module]
    text: TextStack
    schedule: NoiseSchedule
    parts: Mapping[str, Any] = field(default_factory=dict)  # of the pipeline, that are no networks
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    origin: Origin = PLAIN
    testbed: str | None = None
    erasures: tuple[Any, ...] = ()
    guidance: Guidance[Any] | None = None
    latent_size: tuple[int, int] | None = None  # height and width, where they are not the model's own
    low_memory: bool = False
    batch_size: int = BATCH_SIZE
    threads: int | None = None
    calls: Calls = field(default_factory=Calls)
    progress_bar_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def lacks_in(cls, dtype: torch.dtype) -> frozenset[Need]:
        """What methods and attacks may need and no model of the family has in a precision."""
        return cls.lacks | LACKS_IN[dtype]

    def __repr__(self) -> str:
        erased = f", {len(self.erasures)} erasures" if self.erasures else ""
        return f"{type(self).__name__}({self.source!r}, {self.dtype}, {self.device}{erased})"

    @classmethod
    @abstractmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """Wrap a pipeline that is already loaded; its networks are frozen and set to evaluation mode."""

    @abstractmethod
    def save_memory(self) -> None:
        """Trade time for memory inside the networks: gradient checkpointing, decoding in slices and tiles."""

    @abstractmethod
    def _make_pipeline(self) -> Any:  # noqa: ANN401  (a pipeline of diffusers)
        """The diffusers pipeline of the components and the other parts."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents."""

    def original_layouts(self) -> Mapping[str, Layout]:
        """Layouts of the code that trained the networks, by component, as one file of all of them has them.

        Those that are not known here are absent.
        """
        return {}

    @property
    def label(self) -> str:
        """The source, with what was loaded beside it."""
        return self.origin.label(self.source)

    @property
    def denoiser(self) -> nn.Module:
        """The network that removes noise."""
        return self.components[self.denoiser_component]

    @property
    def prompt_embeds_shape(self) -> tuple[int, int]:
        """Text positions and width of the prompt embeddings that the denoiser reads."""
        return self.text.main.length, self.text.main.width

    @property
    def pooled_widths(self) -> tuple[int, int]:
        """Width of the pooled text that text encoders give, and of that which the denoiser reads, or 0."""
        return 0, 0

    @property
    def sites(self) -> Sites:
        """Where the denoiser can be changed or watched."""
        return Sites(self.denoiser, self.denoiser_map)

    @property
    def pipeline(self) -> Any:  # noqa: ANN401  (a pipeline of diffusers)
        """The diffusers pipeline of the model as it is now: what it draws and saves is the erased model.

        Raises:
            InputError: the model is steered while it samples, which no pipeline does.
        """
        if self.guidance is not None:
            raise InputError(
                f"{self.guidance.name} steers the sampling and changes no weights, so a diffusers pipeline "
                "cannot carry it; use `generate` of the model, or an eraser that changes weights."
            )
        pipeline = self._make_pipeline()
        pipeline.set_progress_bar_config(**self.progress_bar_options)
        # a method, not a closure: a deep copy of the pipeline then saves the copy's own networks
        pipeline.save_pretrained = MethodType(save_whole, pipeline)
        # a network that refuses to be saved refuses for the whole pipeline, before any part of it is written
        for module in self.components.values():
            if "save_pretrained" in vars(module):
                pipeline.save_pretrained = module.save_pretrained
        return pipeline

    def noise(self, n: int, generator: torch.Generator) -> Float[Tensor, "n ..."]:
        """Unit noise from a CPU generator, so that a seed means the same on every device."""
        return torch.randn(n, *self.latent_shape, generator=generator).to(self.device)

    def replace(
        self,
        *,
        denoiser: nn.Module | None = None,
        text: Mapping[str, nn.Module] | None = None,
        guidance: Guidance[Any] | None = None,
        erasures: tuple[Any, ...] | None = None,
    ) -> Self:
        """The same model with other parts and its own call counts; nothing is copied.

        Args:
            denoiser: in the place of the model's own.
            text: text-encoder networks by component.
            guidance: steers the sampling from now on.
            erasures: what has been applied.

        Raises:
            InputError: the model is steered already, or its prompt embeddings have another width than the
                guidance.
        """
        # shallow: networks, tokenizer and schedule are the same objects
        other = copy.copy(self)
        other.calls = Calls()
        networks = dict(text or {}) | ({} if denoiser is None else {self.denoiser_component: denoiser})
        other.components = {**self.components, **networks}
        other.text = self.text.with_modules(text or {})
        if guidance is not None:
            other.guidance = self._checked(guidance)
        if erasures is not None:
            other.erasures = erasures
        return other

    def _checked(self, guidance: Guidance[Any]) -> Guidance[Any]:
        if self.guidance is not None:
            raise InputError(
                f"This model is steered by {self.guidance.name} already; apply the erasure to the original "
                "model."
            )
        _, width = self.prompt_embeds_shape
        if any(value.shape[-1] != width for value in guidance.tensors.values()):
            raise InputError(
                f"This erasure was made for another model: its prompt embeddings are not {width} wide."
            )
        return guidance

    def with_components(self, changed: Mapping[str, Mapping[str, Tensor]]) -> Self:
        """A copy with these parameters in place, by component and name; all others are shared.

        Raises:
            KeyError: there is no such component or parameter.
            ValueError: a tensor has another shape.
        """
        modules = {}
        for component, tensors in changed.items():
            own = self.components[component]
            # a model may mix precisions: each tensor takes its own parameter's
            types = {name: parameter.dtype for name, parameter in own.named_parameters()}
            placed = {name: value.to(self.device, types[name]) for name, value in tensors.items()}
            modules[component] = shared_copy(own, placed)
        denoiser = modules.pop(self.denoiser_component, None)
        return self.replace(denoiser=denoiser, text=modules)

    def with_denoiser_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """A copy with these parameters of the denoiser in place, in their own precision.

        All others are shared.
        """
        return self.replace(denoiser=shared_copy(self.denoiser, parameters))

    def with_random_denoiser(self, seed: int = 0) -> Self:
        """The same model with a denoiser that has learned nothing: its class's own initial weights.

        What a probe finds there is the probe's own, or the other networks', and not the denoiser's.
        """
        own: Any = self.denoiser
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh: nn.Module = type(own).from_config(own.config)
        fresh.requires_grad_(requires_grad=False)
        nn.Module.to(fresh, next(own.parameters()).device, self.dtype)
        return self.replace(denoiser=fresh.eval())

    def metered(self) -> Self:
        """The same model with its own call counts."""
        return self.replace()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the parts, in place as in diffusers.

        Models that share parts with this one are moved with it.
        """
        self.device = self.device if device is None else torch.device(device)
        self.dtype = dtype or self.dtype
        for module in self.components.values():
            place = CPU if self.low_memory else self.device
            kind = precision_of(module, self.dtype)
            # not diffusers' own, which warns about every cast
            nn.Module.to(module, place, kind)
            if self.device.type == "cpu" and not is_native(kind):
                compute_in_float32(module)
        self.text = self.text.to(self.device)
        return self

    def set_progress_bar_config(self, **options: Any) -> None:  # noqa: ANN401  (passed on to tqdm)
        """Options of the progress bars, as in diffusers (``disable=True`` silences them)."""
        self.progress_bar_options = options

    @contextmanager
    def _at_work(self, *modules: nn.Module) -> Iterator[None]:
        """The block in which networks are called.

        Trained float32 weights meet frozen ones of another type there, and memory has an end.
        """
        with out_of_memory():
            # not accelerate's cpu_offload_with_hook: a hook frees one given predecessor, also while a
            # backward pass still needs it, but networks run here in any order; and a copy of a hooked network
            # copies the weights of all its predecessors
            if self.low_memory:
                for module in self.components.values():
                    if any(module is working for working in modules):
                        module.to(self.device)
                    elif not torch.is_grad_enabled():  # a backward pass may go through its parameters
                        module.to("cpu")
            kind = precision_of(modules[0], self.dtype)
            mixed = any(p.dtype != kind for module in modules for p in module.parameters())
            with autocast_for(self.device, kind) if mixed else nullcontext():
                yield
