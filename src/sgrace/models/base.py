"""The one interface between methods and models: text encoders, denoiser, autoencoder and noise schedule of any family."""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from .._util.device import autocast_for, check_finite, out_of_memory
from .._util.errors import InputError
from .conditioning import CPU, Conditioning, PromptSource, Tokens
from .guidance import Guidance, Sampling, SamplingCost, Scale, is_off
from .schedule import NoiseSchedule
from .sharing import shared_copy
from .sites import DenoiserMap, Sites
from .text import TextStack

GUIDANCE_SCALE = 7.5
#: Images or latents that are sampled together where nobody says otherwise.
BATCH_SIZE = 32


@dataclass
class Calls:
    """Samples (rows) that went through the denoiser and the text encoders, and the number of batched calls."""

    denoiser_calls: int = 0
    denoiser_rows: int = 0
    text_encoder_calls: int = 0
    text_encoder_rows: int = 0


class PartialSample(NamedTuple):
    """Latents within the schedule, and the timestep at which the next step would be taken (-1 at the end)."""

    latents: Float[Tensor, "batch ..."]
    timestep: float


class PartialSamples(NamedTuple):
    """Latents within the schedule, each with the timestep of its next step (of the last step, for finished ones)."""

    latents: Float[Tensor, "batch ..."]
    timesteps: Float[Tensor, " batch"]


@dataclass(kw_only=True)
class DiffusionModel(ABC):
    """A text-to-image model behind one small interface.

    Frozen parts keep ``requires_grad=False`` and the model's ``dtype``. ``encode``, ``predict`` and
    ``decode`` take float32 tensors and return float32 tensors on the model's device, whatever the precision
    of the parts.

    Attributes:
        source: name, folder or hub id it was loaded from.
        components: the networks by their name in the diffusers pipeline.
        text: the text encoders.
        schedule: how noise is added and removed.
        device, dtype: of the parts.
        revision: of the hub repository, where one was asked for.
        testbed: name of the testbed that comes with the model, set by the loader.
        erasures: erasures that were applied, in order.
        guidance: what steers the sampling, where an erasure brings any.
        low_memory: only the network at work is on the device.
        batch_size: samples that are denoised or decoded together.
        calls: what went through the networks.
        progress_bar_options: as in diffusers (``disable=True`` silences the bars).
    """

    family: ClassVar[str]
    #: Classes of diffusers pipelines that hold such a model.
    pipelines: ClassVar[tuple[str, ...]]
    #: Name of the denoiser among the components.
    denoiser_component: ClassVar[str]
    denoiser_map: ClassVar[DenoiserMap]

    source: str
    components: Mapping[str, nn.Module]
    text: TextStack
    schedule: NoiseSchedule
    parts: Mapping[str, Any] = field(default_factory=dict)  # of the pipeline, that are no networks
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    revision: str | None = None
    testbed: str | None = None
    erasures: tuple[Any, ...] = ()
    guidance: Guidance[Any] | None = None
    low_memory: bool = False
    batch_size: int = BATCH_SIZE
    calls: Calls = field(default_factory=Calls)
    progress_bar_options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        erased = f", {len(self.erasures)} erasures" if self.erasures else ""
        return f"{type(self).__name__}({self.source!r}, {self.dtype}, {self.device}{erased})"

    # -- what a family writes
    # -----------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> Self:  # noqa: ANN401  (of diffusers)
        """Wrap a pipeline that is already loaded; its networks are frozen and set to evaluation mode."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample's latents."""

    @abstractmethod
    def _encode(self, source: PromptSource) -> Conditioning:
        """Run every text encoder once and combine what they return."""

    @abstractmethod
    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's output; all arguments have the denoiser's device and type."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Images from scaled latents, not clamped."""

    @abstractmethod
    def save_memory(self) -> None:
        """Trade time for memory inside the networks: gradient checkpointing, decoding in slices and tiles."""

    @abstractmethod
    def _make_pipeline(self) -> Any:  # noqa: ANN401  (a pipeline of diffusers)
        """The diffusers pipeline of the components and the other parts."""

    # -- parts
    # --------------------------------------------------------------------------------------------------------

    @property
    def denoiser(self) -> nn.Module:
        """The network that removes noise."""
        return self.components[self.denoiser_component]

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
                f"{self.guidance.name} steers the sampling and changes no weights, so a diffusers pipeline cannot carry it; "
                "use `generate` of the model, or an eraser that changes weights."
            )
        pipeline = self._make_pipeline()
        pipeline.set_progress_bar_config(**self.progress_bar_options)
        return pipeline

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
                f"This model is steered by {self.guidance.name} already; apply the erasure to the original model."
            )
        width = self.text.main.width
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
            types = {name: parameter.dtype for name, parameter in own.named_parameters()}
            placed = {name: value.to(self.device, types[name]) for name, value in tensors.items()}
            modules[component] = shared_copy(own, placed)
        denoiser = modules.pop(self.denoiser_component, None)
        return self.replace(denoiser=denoiser, text=modules)

    def with_denoiser_parameters(self, parameters: Mapping[str, Tensor]) -> Self:
        """A copy with these parameters of the denoiser in place, in their own precision; all others are shared."""
        return self.replace(denoiser=shared_copy(self.denoiser, parameters))

    def metered(self) -> Self:
        """The same model with its own call counts."""
        return self.replace()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move the parts, in place as in diffusers; models that share parts with this one are moved with it."""
        self.device = self.device if device is None else torch.device(device)
        self.dtype = dtype or self.dtype
        for module in self.components.values():
            place = CPU if self.low_memory else self.device
            nn.Module.to(module, place, self.dtype)  # not diffusers' own, which warns about every cast
        self.text = self.text.to(self.device)
        return self

    def set_progress_bar_config(self, **options: Any) -> None:  # noqa: ANN401  (passed on to tqdm)
        """Options of the progress bars, as in diffusers (``disable=True`` silences them)."""
        self.progress_bar_options = options

    # -- text
    # ---------------------------------------------------------------------------------------------------------

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of prompts: one call of every text encoder."""
        return self._metered_encode(PromptSource(self.text.tokenize(prompts)))

    def encode_tokens(
        self, tokens: Tokens, embeddings: Float[Tensor, "batch length width"] | None = None
    ) -> Conditioning:
        """Conditioning of token rows of the main encoder, or of input embeddings in their place (with gradient).

        The other encoders read the same tokens.
        """
        given = {} if embeddings is None else {self.text.main.name: embeddings}
        return self._metered_encode(PromptSource(self.text.follow(tokens), given))

    def _metered_encode(self, source: PromptSource) -> Conditioning:
        self.calls.text_encoder_calls += 1
        self.calls.text_encoder_rows += len(next(iter(source.tokens.values())))
        modules = [encoder.module for encoder in self.text]
        with self._at_work(*modules):
            return self._encode(source)

    def uncond(self) -> Conditioning:
        """Conditioning of the empty prompt, one row: what classifier-free guidance steers away from."""
        return self.encode([""])

    def text_features(self, cond: Conditioning) -> Float[Tensor, "batch features"]:
        """Pooled features of prompts, in the space shared with images where the model has CLIP's text projection."""
        source = cond.source
        if source is None:
            raise ValueError("Pooled features need prompts that a text encoder read.")
        main = self.text.main
        return self.project(cond.at(source.tokens[main.name].end))

    def project(self, pooled: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch features"]:
        """States of one position in the space shared with images; as they are where the projection is not known."""
        projection = self.text.main.projection
        return pooled if projection is None else pooled @ projection.T

    # -- denoising
    # ----------------------------------------------------------------------------------------------------

    def noise(self, n: int, generator: torch.Generator) -> Float[Tensor, "n ..."]:
        """Unit noise from a CPU generator, so that a seed means the same on every device."""
        return torch.randn(n, *self.latent_shape, generator=generator).to(self.device)

    def initial_noise(self, seeds: Sequence[int]) -> Float[Tensor, "batch ..."]:
        """Unit noise, one CPU generator a seed, so that an image does not depend on its batch."""
        each = [
            torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        return torch.stack(each).to(self.device)

    def predict(
        self, latents: Float[Tensor, "batch ..."], timesteps: Tensor, cond: Conditioning
    ) -> Float[Tensor, "batch ..."]:
        """The denoiser's raw output, which ``schedule`` reads: float32.

        Args:
            latents: noisy latents.
            timesteps: one for all, or one for each sample.
            cond: the prompts.
        """
        self.calls.denoiser_calls += 1
        self.calls.denoiser_rows += len(latents)
        with self._at_work(self.denoiser):
            return self._call_denoiser(latents.to(self.dtype), timesteps.to(self.device), cond).float()

    @contextmanager
    def _at_work(self, *modules: nn.Module) -> Iterator[None]:
        """Where networks are called: trained float32 weights meet frozen ones of another type, and memory has an end."""
        with out_of_memory():
            if self.low_memory:
                for module in self.components.values():
                    if any(module is working for working in modules):
                        module.to(self.device)
                    elif (
                        not torch.is_grad_enabled()
                    ):  # a backward pass may come that goes through its parameters
                        module.to("cpu")
            mixed = any(p.dtype != self.dtype for module in modules for p in module.parameters())
            with autocast_for(self.device, self.dtype) if mixed else nullcontext():
                yield

    def sampling_cost(self, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """What sampling these prompts takes, at each step and in all."""
        if self.guidance is None:
            return SamplingCost(len(cond) * (1 if is_off(guidance_scale) else 2), 0)
        return self.guidance.cost(self, cond, guidance_scale)

    def _sampling(
        self, cond: Conditioning, uncond: Conditioning, guidance_scale: Scale, num_inference_steps: int
    ) -> Sampling:
        """What steers a batch through the steps."""
        if self.guidance is None:
            return Sampling(self.predict, cond, uncond, guidance_scale, num_inference_steps)
        return self.guidance.sampling(self, cond, uncond, guidance_scale, num_inference_steps)

    @torch.no_grad()
    def denoise(
        self,
        noise: Float[Tensor, "batch ..."],
        cond: Conditioning,
        uncond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: Scale,
        start: int = 0,
        stop: int | None = None,
    ) -> PartialSample:
        """Take the steps ``start`` to ``stop`` of ``num_inference_steps``.

        Args:
            noise: unit noise; with a later ``start``, latents at that step's noise level.
            cond: the prompts.
            uncond: the negative prompt, or one for each sample.
            num_inference_steps: length of the whole schedule.
            guidance_scale: one for all or one for each sample; a single 1 switches guidance off.
            start: number of steps left out.
            stop: number of the step before which to stop; none to go to the end.
        """
        sampler = self.schedule.sampler(num_inference_steps)
        generators = row_generators(noise)
        latents = noise if start else noise * sampler.initial_scale
        sampling = self._sampling(cond, uncond, guidance_scale, num_inference_steps)
        end = len(sampler.timesteps) if stop is None or stop >= num_inference_steps else stop
        for step, timestep in enumerate(sampler.timesteps[start:end], start):
            output = sampling.output(sampler.model_input(latents, step), timestep, step)
            latents = sampler.step(output, step, latents, generators)
            if step == start:  # what overflows does so at once: do not go on for nothing
                check_finite(latents, "The latents", self.dtype)
        check_finite(latents, "The latents", self.dtype)
        following = float(sampler.timesteps[end]) if end < len(sampler.timesteps) else -1.0
        return PartialSample(latents, following)

    @torch.no_grad()
    def denoise_each(
        self,
        noise: Float[Tensor, "batch ..."],
        cond: Conditioning,
        uncond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: Scale,
        stops: Sequence[int],
    ) -> PartialSamples:
        """As :meth:`denoise`, with a stop of its own for each sample: a step runs only the samples that go further.

        Samplers that remember earlier outputs need all samples of a batch at once, so samples run in groups
        of one stop.
        """
        latents = torch.empty_like(noise)
        timesteps = torch.empty(len(stops))
        everyone = list(range(len(stops)))
        n_steps = len(self.schedule.sampler(num_inference_steps).timesteps)
        stops = [
            n_steps if stop >= num_inference_steps else stop for stop in stops
        ]  # some samplers take more steps
        groups = [everyone]
        if self.schedule.sampler(num_inference_steps).remembers:
            groups = [[row for row in everyone if stops[row] == stop] for stop in sorted(set(stops))]
        for group in groups:
            sampler = self.schedule.sampler(num_inference_steps)
            last = len(sampler.timesteps) - 1
            generators = dict(zip(group, row_generators(noise[group]), strict=True))
            current = noise[group] * sampler.initial_scale
            rows = group
            sampling = self._sampling(cond[group], uncond, guidance_scale, num_inference_steps)
            for step in range(max(stops[row] for row in group) + 1):
                going = [place for place, row in enumerate(rows) if stops[row] > step]
                for place, row in enumerate(rows):
                    if stops[row] <= step:
                        latents[row] = current[place]
                        timesteps[row] = sampler.timesteps[min(stops[row], last)]
                if not going:
                    break
                current = current[going]
                rows = [rows[place] for place in going]
                sampling.keep(going)
                output = sampling.output(sampler.model_input(current, step), sampler.timesteps[step], step)
                current = sampler.step(output, step, current, [generators[row] for row in rows])
        check_finite(latents, "The latents", self.dtype)
        return PartialSamples(latents, timesteps.to(self.device))

    # -- images
    # -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch 3 height width"]:
        """Images in -1..1 from scaled latents, ``batch_size`` at once."""
        images = []
        for part in latents.split(self.batch_size):
            with self._at_work(*self._decoders()):
                decoded = self._decode(part.to(self.dtype)).float()
            check_finite(decoded, "The images", self.dtype)
            images.append(decoded.clamp(-1, 1))
        return torch.cat(images)

    def _decoders(self) -> list[nn.Module]:
        """The networks that decode."""
        texts = {encoder.component for encoder in self.text}
        return [
            m for name, m in self.components.items() if name != self.denoiser_component and name not in texts
        ]

    def sample(
        self,
        noise: Float[Tensor, "batch ..."],
        cond: Conditioning,
        uncond: Conditioning,
        *,
        num_inference_steps: int,
        guidance_scale: Scale,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images in -1..1 from unit noise and conditioning, in one batch."""
        done = self.denoise(
            noise, cond, uncond, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale
        )
        return self.decode(done.latents)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        num_inference_steps: int = 25,
        guidance_scale: Scale = GUIDANCE_SCALE,
        batch_size: int | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images in -1..1, one for each prompt and seed; the batch size changes nothing but speed and memory.

        Args:
            prompts: one for each image.
            seeds: one for each image.
            num_inference_steps: steps of sampling.
            guidance_scale: one for all or one for each image.
            batch_size: images sampled together; the model's own, if absent.

        Raises:
            InputError: there is no prompt, or not one seed for each.
        """
        if not prompts or len(prompts) != len(seeds):
            raise InputError(
                f"Give a seed for each prompt: {len(prompts)} prompts came with {len(seeds)} seeds."
            )
        size = batch_size or self.batch_size
        uncond = self.uncond()
        images = []
        for at in tqdm(range(0, len(prompts), size), desc="images", **self.progress_bar_options):
            rows = slice(at, at + size)
            scale = guidance_scale[rows] if isinstance(guidance_scale, Tensor) else guidance_scale
            cond = self.encode(prompts[rows])
            noise = self.initial_noise(seeds[rows])
            images.append(
                self.sample(
                    noise, cond, uncond, num_inference_steps=num_inference_steps, guidance_scale=scale
                )
            )
        return torch.cat(images)


def row_generators(noise: Float[Tensor, "batch ..."]) -> list[torch.Generator]:
    """A CPU generator for each sample, seeded by the sample's own noise.

    Samplers that add noise draw from it, so that an image depends on its own seed and on nothing else of its
    batch.
    """
    rows = noise.detach().cpu().contiguous()
    return [torch.Generator().manual_seed(zlib.crc32(row.numpy().tobytes())) for row in rows]
