"""The one interface between methods and models of any family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .._util.device import check_finite, out_of_memory
from .._util.errors import InputError
from .._util.progress import checkpoint, progress
from .conditioning import Conditioning, PromptSource, Tokens
from .guidance import Sampling, SamplingCost, Scale, is_off
from .needs import Need
from .partial import denoise_each
from .parts import ModelParts
from .schedule import PartialSample, PartialSamples, Sampler, row_generators
from .text import TextEncoder
from .threads import own_threads

GUIDANCE_SCALE = 7.5


@dataclass(kw_only=True, repr=False)
class DiffusionModel(ModelParts):
    """A text-to-image model behind one small interface: encode, predict, sample.

    ``encode``, ``predict`` and ``decode`` take float32 tensors and return float32 tensors on the model's
    device, whatever the precision of the parts. A family writes the abstract methods.
    """

    @abstractmethod
    def _encode(self, source: PromptSource) -> Conditioning:
        """Run every text encoder once and combine what they return."""

    @abstractmethod
    def _call_denoiser(self, latents: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The denoiser's output; all arguments have the denoiser's device and type."""

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor:
        """Images from scaled latents, not clamped."""

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of prompts: one call of every text encoder."""
        return self.encode_source(PromptSource(self.text.tokenize(prompts)))

    def encode_tokens(
        self, tokens: Tokens, embeddings: Float[Tensor, "batch length width"] | None = None
    ) -> Conditioning:
        """Conditioning of token rows of the main encoder, with gradient.

        Input embeddings, where they are given, stand in the place of the tokens' own. The other encoders
        read the same tokens.
        """
        # the main encoder alone reads embeddings; the others read the tokens
        given = {} if embeddings is None else {self.text.main.name: embeddings}
        return self.encode_source(PromptSource(self.text.follow(tokens), given))

    def encode_source(self, source: PromptSource) -> Conditioning:
        """Conditioning of token rows, and input embeddings where there are any, of every encoder."""
        checkpoint()
        self.calls.text_encoder_calls += 1
        # rows of one encoder: all encoders read the same prompts
        self.calls.text_encoder_rows += len(next(iter(source.tokens.values())))
        return self._encode(source)

    def _run(self, encoder: TextEncoder, source: PromptSource, **options: Any) -> Any:  # noqa: ANN401
        """What one text encoder's network returns."""
        # one at a time: only the network at work need be on the device, in its own precision
        with self._at_work(encoder.module):
            return encoder.run(
                source.tokens[encoder.name].ids, source.embeddings.get(encoder.name), **options
            )

    def _last_states(self, encoder: TextEncoder, source: PromptSource) -> Float[Tensor, "batch _ _"]:
        """The last states of a text encoder, which does not run where the source has them."""
        known = source.states.get(encoder.name)
        return self._run(encoder, source).last_hidden_state.float() if known is None else known

    @torch.no_grad()
    def read_ahead(self, source: PromptSource, encoders: Sequence[TextEncoder]) -> PromptSource:
        """The source with the states of encoders that do not change, so that they need not run again."""
        return replace(source, states={own.name: self._last_states(own, source) for own in encoders})

    def uncond(self, negative_prompt: str = "") -> Conditioning:
        """Conditioning of a negative prompt or none, one row: what classifier-free guidance steers away from.

        Raises:
            InputError: there is a negative prompt, and the model guides itself.
        """
        if negative_prompt and Need.SAMPLING in self.lacks:
            raise InputError(f"A {self.family} model guides itself, so a negative prompt changes nothing.")
        return self.as_negative(self.encode([negative_prompt]), [negative_prompt])

    def as_negative(self, cond: Conditioning, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of prompts as negative prompts.

        It is the same, but in families that have something else than the empty prompt for none.
        """
        del prompts
        return cond

    def text_features(self, cond: Conditioning) -> Float[Tensor, "batch features"]:
        """Pooled features of prompts.

        They are in the space shared with images where the model has CLIP's text projection.
        """
        source = cond.source
        if source is None:
            raise ValueError("Pooled features need prompts that a text encoder read.")
        main = self.text.main
        return self.project(cond.at(source.tokens[main.name].end))

    def project(self, pooled: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch features"]:
        """States of one position in the space shared with images; as they are, if no projection is known."""
        projection = self.text.main.projection
        # (..., width) -> (..., features)
        return pooled if projection is None else pooled @ projection.T

    def initial_noise(self, seeds: Sequence[int]) -> Float[Tensor, "batch ..."]:
        """Unit noise, one CPU generator a seed, so that an image does not depend on its batch.

        Raises:
            InputError: memory runs out, as it does for images of absurd sizes.
        """
        # each from a generator of its own: (seeds, *latent_shape)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with out_of_memory():
            drawn = torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators])
            return drawn.to(self.device)

    def predict(
        self, latents: Float[Tensor, "batch ..."], timesteps: Tensor, cond: Conditioning
    ) -> Float[Tensor, "batch ..."]:
        """The denoiser's raw output, which ``schedule`` reads: float32.

        Args:
            latents: noisy latents.
            timesteps: one for all, or one for each sample.
            cond: the prompts.
        """
        checkpoint()
        self.calls.denoiser_calls += 1
        # counted before the call: one that runs out of memory has been tried too
        self.calls.denoiser_rows += len(latents)
        with self._at_work(self.denoiser):
            return self._call_denoiser(latents.to(self.dtype), timesteps.to(self.device), cond).float()

    def sampling_cost(self, cond: Conditioning, guidance_scale: Scale) -> SamplingCost:
        """What sampling these prompts takes, at each step and in all."""
        if self.guidance is None:
            return SamplingCost(len(cond) * (1 if is_off(guidance_scale) else 2), 0)
        return self.guidance.cost(self, cond, guidance_scale)

    def _sampling(
        self, cond: Conditioning, uncond: Conditioning, guidance_scale: Scale, num_inference_steps: int
    ) -> Sampling:
        """What steers a batch through the steps."""
        plain = Sampling(self.predict, cond, uncond, guidance_scale, num_inference_steps)
        return plain if self.guidance is None else self.guidance.sampling(self, plain)

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
        sampler: Sampler | None = None,
    ) -> PartialSample:
        """Take the steps ``start`` to ``stop`` of ``num_inference_steps``.

        Args:
            noise: unit noise; with a later ``start``, latents at that step's noise level, scaled as
                ``schedule.add_noise`` does.
            cond: the prompts.
            uncond: the negative prompt, or one for each sample.
            num_inference_steps: length of the whole schedule.
            guidance_scale: one for all or one for each sample; a single 1 switches guidance off.
            start: number of steps left out.
            stop: number of the step before which to stop; none to go to the end.
            sampler: a new run through as many steps; the model's own, if absent.
        """
        sampler = sampler or self.schedule.sampler(num_inference_steps)
        # one a sample: noise that a sampler adds does not depend on the batch
        generators = row_generators(noise)
        first = sampler.start_of(start)
        end = sampler.start_of(num_inference_steps if stop is None else stop)
        latents = sampler.from_schedule(noise, first) if start else noise * sampler.initial_scale
        sampling = self._sampling(cond, uncond, guidance_scale, num_inference_steps)
        for call in range(first, end):
            given = sampler.model_input(latents, call)
            output = sampling.output(given, sampler.timesteps[call], sampler.step_of(call))
            latents = sampler.step(output, call, latents, generators)
            if call == first:  # what overflows does so at once: do not go on for nothing
                check_finite(latents, "The latents", self.dtype)
        check_finite(latents, "The latents", self.dtype)
        following = float(sampler.timesteps[end]) if end < len(sampler.timesteps) else -1.0
        return PartialSample(sampler.to_schedule(latents, end), following)

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
        """As :meth:`denoise`, with a stop of its own for each sample.

        A step runs only the samples that go further. Samplers that remember earlier outputs need all samples
        of a batch at once, so samples run in groups of one stop.
        """
        latents = torch.empty_like(noise)
        timesteps = torch.empty(len(stops))
        everyone = list(range(len(stops)))
        whole = self.schedule.sampler(num_inference_steps)
        ends = [whole.start_of(stop) for stop in stops]  # in calls, of which a step may take several
        groups = [everyone]
        if whole.remembers:
            groups = [[row for row in everyone if ends[row] == end] for end in sorted(set(ends))]
        for group in groups:
            sampler = self.schedule.sampler(num_inference_steps)  # a new one: it may remember the last group
            sampling = self._sampling(cond[group], uncond, guidance_scale, num_inference_steps)
            done = denoise_each(noise[group], sampler, sampling, [ends[row] for row in group])
            latents[group] = done.latents
            timesteps[group] = done.timesteps
        check_finite(latents, "The latents", self.dtype)
        return PartialSamples(latents, timesteps.to(self.device))

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch 3 height width"]:
        """Images in -1..1 from scaled latents, ``batch_size`` at once."""
        images = []
        # latents may come in any number, more than are computed together
        for part in torch.split(latents, self.batch_size):
            with self._at_work(*self._decoders()):
                decoded = self._decode(part.to(self.dtype)).float()
            check_finite(decoded, "The images", self.dtype)
            # the decoder overshoots a little
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
        negative_prompt: str = "",
        batch_size: int | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images in -1..1, one for each prompt and seed; the batch size changes nothing but speed and memory.

        Args:
            prompts: one for each image.
            seeds: one for each image.
            num_inference_steps: steps of sampling.
            guidance_scale: one for all or one for each image.
            negative_prompt: what guidance steers away from; nothing, if empty.
            batch_size: images sampled together; the model's own, if absent.

        Raises:
            InputError: there is no prompt, or not one seed for each.
        """
        if not prompts or len(prompts) != len(seeds):
            raise InputError(f"Give a seed for each prompt: {len(prompts)} prompts, {len(seeds)} seeds.")
        size = batch_size or self.batch_size
        uncond = self.uncond(negative_prompt)
        images = []
        for at in progress(range(0, len(prompts), size), "images", **self.progress_bar_options):
            rows = slice(at, at + size)
            # a scale a prompt is cut like the prompts
            scale = guidance_scale[rows] if isinstance(guidance_scale, Tensor) else guidance_scale
            with own_threads(self):
                drawn = self.sample(
                    self.initial_noise(seeds[rows]),
                    self.encode(prompts[rows]),
                    uncond,
                    num_inference_steps=num_inference_steps,
                    guidance_scale=scale,
                )
            images.append(drawn)
        return torch.cat(images)
