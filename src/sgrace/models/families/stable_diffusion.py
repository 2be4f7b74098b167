"""Adapter over Stable Diffusion 1.x and 2.x pipelines of diffusers, of any size."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel

from ..._util.errors import InputError
from ..guidance import Guidance, Sampling, Scale, is_off
from ..loading import load_pipeline, load_text_encoder, load_unet

GUIDANCE_SCALE = 7.5


@dataclass(frozen=True)
class Tokens:
    """Token ids ``(batch, length)`` and the position of the first end-of-text token of each row ``(batch,)``."""

    ids: Int[Tensor, "batch length"]
    end: Int[Tensor, " batch"]


@dataclass
class Calls:
    """Rows (samples) that went through the denoiser and the text encoder, and the number of batched calls."""

    unet_calls: int = 0
    unet_rows: int = 0
    text_encoder_calls: int = 0
    text_encoder_rows: int = 0


@dataclass
class StableDiffusion:
    """Text encoder, denoiser, autoencoder and scheduler behind one small interface.

    All sizes come from the parts themselves. Frozen parts keep ``requires_grad=False``; every call is counted in ``calls``. ``guidance``
    steers the sampling, where an erasure brings any.
    """

    pipeline: StableDiffusionPipeline
    source: str
    text_encoder: CLIPTextModel
    text_projection: Tensor | None = None  # (features, width); absent in most pipeline folders
    calls: Calls = field(default_factory=Calls)
    progress_bar_options: dict[str, Any] = field(default_factory=dict)
    guidance: Guidance[Any] | None = None
    testbed: str | None = None  # set by the loader of a model that brings one

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Self:
        """Load a diffusers folder or a hub id.

        Raises:
            InputError: the folder is not a readable Stable Diffusion pipeline.
        """
        pipeline = load_pipeline(source, revision, dtype)
        model = cls.from_pipeline(pipeline, str(source))
        projection = Path(source) / "text_projection.safetensors"
        if projection.is_file():
            model.text_projection = load_file(projection)["weight"].to(dtype)
        return model

    @classmethod
    def from_pipeline(cls, pipeline: StableDiffusionPipeline, source: str = "pipeline") -> Self:
        """Wrap a pipeline that is already loaded; its parts are frozen and set to evaluation mode."""
        for part in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
            part.eval().requires_grad_(False)
        return cls(pipeline, source, pipeline.text_encoder)

    def with_text_encoder(self, text_encoder: CLIPTextModel) -> Self:
        """The same model with another text encoder; all other parts are shared and nothing is copied."""
        other = copy.copy(self)
        other.text_encoder, other.calls = text_encoder, Calls()
        return other

    def with_unet(self, unet: UNet2DConditionModel) -> Self:
        """The same model with another denoiser; all other parts are shared and nothing is copied."""
        other = self.with_text_encoder(self.text_encoder)
        other.pipeline = StableDiffusionPipeline(**{**self.pipeline.components, "unet": unet}, requires_safety_checker=False)
        return other

    def with_guidance(self, guidance: Guidance[Any]) -> Self:
        """The same model, steered while it samples; nothing is copied.

        Raises:
            InputError: the model is steered already, or its text states have another width.
        """
        if self.guidance is not None:
            raise InputError(f"This model is steered by {self.guidance.name} already; apply the erasure to a model without guidance.")
        width = self.text_encoder.config.hidden_size
        if any(value.shape[-1] != width for value in guidance.tensors.values()):
            raise InputError(f"This erasure was made for another model: its text states are not {width} wide.")
        other = self.with_text_encoder(self.text_encoder)
        other.guidance = guidance
        return other

    def with_parts(self, text_encoder: Path | None, unet: Path | None) -> Self:
        """The same model with parts from folders in the place of its own.

        Raises:
            InputError: a folder is no such part, or of other sizes.
        """
        other = self if unet is None else self.with_unet(load_unet(unet, self.pipeline.unet.config.cross_attention_dim))
        encoder = self.text_encoder
        if text_encoder is not None:
            encoder = load_text_encoder(text_encoder, self.pipeline.text_encoder.config.hidden_size)
        return other.with_text_encoder(encoder)

    def set_progress_bar_config(self, **options: Any) -> None:  # noqa: ANN401  (passed on to tqdm)
        """Options of the progress bars, as in diffusers (``disable=True`` silences them)."""
        self.progress_bar_options = options

    # -- text -----------------------------------------------------------------------------------------------------

    @property
    def text_length(self) -> int:
        """Number of text positions."""
        return int(self.pipeline.text_encoder.config.max_position_embeddings)

    def tokenize(self, texts: list[str]) -> Tokens:
        """Token ids, padded and cut to ``text_length``."""
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(texts, padding="max_length", truncation=True, max_length=self.text_length, return_tensors="pt").input_ids
        return Tokens(ids, self.ends(ids))

    def ends(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
        """Position of the first end-of-text token of each row."""
        return (ids == self.pipeline.tokenizer.eos_token_id).int().argmax(1)

    def assemble(self, contents: list[list[int]]) -> Tokens:
        """Rows of given content tokens between the start and end tokens, padded; a content that is too long loses its end."""
        tokenizer = self.pipeline.tokenizer
        room = self.text_length - 2
        rows = [[tokenizer.bos_token_id, *content[:room], tokenizer.eos_token_id] for content in contents]
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (self.text_length - len(row)) for row in rows])
        return Tokens(ids, torch.tensor([len(row) - 1 for row in rows]))

    def content_tokens(self, text: str) -> list[int]:
        """Token ids of a text without start and end tokens, not cut."""
        ids: list[int] = self.pipeline.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def random_tokens(self, n: int, generator: torch.Generator) -> list[int]:
        """Uniform token ids that are neither start nor end tokens."""
        if n == 0:
            return []  # listing a large vocabulary for nothing would cost more than the sample
        special = set(self.pipeline.tokenizer.all_special_ids)
        ordinary = torch.tensor([i for i in range(len(self.pipeline.tokenizer)) if i not in special])
        picks: list[int] = ordinary[torch.randint(len(ordinary), (n,), generator=generator)].tolist()
        return picks

    def embed(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch features"]:
        """Token embeddings, without positions."""
        embeddings: Tensor = self.text_encoder.get_input_embeddings()(ids)
        return embeddings

    def encode(
        self, ids: Int[Tensor, "batch length"], embeddings: Float[Tensor, "batch length features"] | None = None
    ) -> Float[Tensor, "batch length features"]:
        """Text states after the final layer norm, from token ids, or from embeddings put in the place of the ids' own (with gradient)."""
        self.calls.text_encoder_calls += 1
        self.calls.text_encoder_rows += len(ids)
        table: nn.Module = self.text_encoder.get_input_embeddings()
        hook = None if embeddings is None else table.register_forward_hook(lambda _module, _inputs, _output: embeddings)
        try:
            states: Tensor = self.text_encoder(ids).last_hidden_state
        finally:
            if hook is not None:
                hook.remove()
        if self.guidance is not None:
            self.guidance.note(self, ids, embeddings, states)
        return states

    def project(self, pooled: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch projection"]:
        """Features in the space shared with pictures, where the folder has CLIP's text projection; else the states themselves."""
        return pooled if self.text_projection is None else pooled @ self.text_projection.T

    # -- denoising ------------------------------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents."""
        unet = self.pipeline.unet.config
        return unet.in_channels, unet.sample_size, unet.sample_size

    def initial_noise(self, seeds: list[int]) -> Float[Tensor, "batch channels height width"]:
        """Unit noise, one CPU generator per seed, so that a picture does not depend on its batch."""
        return torch.stack([torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def predict(
        self, latents: Float[Tensor, "batch channels height width"], timestep: int | Tensor, states: Float[Tensor, "batch length features"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The denoiser's raw output (noise or velocity, see ``prediction_type``)."""
        self.calls.unet_calls += 1
        self.calls.unet_rows += len(latents)
        output: Tensor = self.pipeline.unet(latents, timestep, states).sample
        return output

    @property
    def prediction_type(self) -> str:
        """What ``predict`` returns: ``epsilon`` or ``v_prediction``."""
        return str(self.pipeline.scheduler.config.prediction_type)

    def noise_of(self, output: Tensor, latents: Tensor, timesteps: Int[Tensor, " batch"]) -> Tensor:
        """The noise that an output of ``predict`` stands for."""
        if self.prediction_type == "epsilon":
            return output
        signal = self.pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * output + (1 - signal).sqrt() * latents

    def noised(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, " batch"]) -> Tensor:
        """Scaled latents at the noise level of given timesteps."""
        signal = self.pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * clean + (1 - signal).sqrt() * noise

    def training_target(self, clean: Tensor, noise: Tensor, timesteps: Int[Tensor, " batch"]) -> Tensor:
        """What ``predict`` should return for ``noised`` latents: the noise or the velocity."""
        if self.prediction_type == "epsilon":
            return noise
        signal = self.pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return signal.sqrt() * noise - (1 - signal).sqrt() * clean

    def sampling_rows(self, states: Float[Tensor, "batch length features"], guidance_scale: Scale) -> tuple[int, int]:
        """Rows that sampling takes: of the denoiser at each step, and of the text encoder in all."""
        if self.guidance is None:
            return len(states) * (1 if is_off(guidance_scale) else 2), 0
        return len(states) * self.guidance.unet_rows(guidance_scale), self.guidance.text_rows(states)

    def _sampling(self, states: Tensor, empty: Tensor, guidance_scale: Scale, num_inference_steps: int) -> Sampling:
        """What steers a batch of these text states through a roll."""
        start = Sampling if self.guidance is None else self.guidance.sampling
        return start(self, states, empty, guidance_scale, num_inference_steps)

    @torch.no_grad()
    def roll(
        self, latents: Tensor, states: Tensor, empty: Tensor, num_inference_steps: int, stop: int, guidance_scale: Scale, start: int = 0
    ) -> tuple[Tensor, int]:
        """Denoise through the steps ``start`` to ``stop`` of ``num_inference_steps``.

        Args:
            latents: unit noise ``(batch, channels, height, width)``; with a later ``start``, latents noised to that step's timestep.
            states: text states of the prompts ``(batch, length, width)``.
            empty: text states of the negative prompt ``(1, length, width)``.
            num_inference_steps: length of the whole schedule.
            stop: number of steps taken, ``0 .. num_inference_steps``.
            guidance_scale: one for all or one for each row; a single 1 switches guidance off and halves the cost.
            start: number of steps left out.

        Returns:
            The latents and the scheduler timestep at which the *next* step would be taken (-1 at the end).
        """
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_inference_steps)
        latents = latents if start else latents * scheduler.init_noise_sigma
        sampling = self._sampling(states, empty, guidance_scale, num_inference_steps)
        for step, timestep in enumerate(scheduler.timesteps[start:stop], start):
            output = sampling.output(scheduler.scale_model_input(latents, timestep), timestep, step)
            latents = scheduler.step(output, timestep, latents).prev_sample
        following = int(scheduler.timesteps[stop]) if stop < len(scheduler.timesteps) else -1
        return latents, following

    @torch.no_grad()
    def roll_each(
        self, latents: Tensor, states: Tensor, empty: Tensor, num_inference_steps: int, stops: list[int], guidance_scale: float
    ) -> tuple[Tensor, Int[Tensor, " batch"]]:
        """As :meth:`roll`, with a stop of its own for each row: at every step only the rows that go further are run.

        Schedulers that remember outputs of earlier steps are given all rows of a batch at once, so rows are run in groups of equal stop.

        Returns:
            The latents, and the timestep of each row's next step (of the last step, for rows that went through all).
        """
        out = torch.empty_like(latents)
        timesteps = torch.empty(len(stops), dtype=torch.long)
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_inference_steps)
        memoryless = type(scheduler).__name__.startswith("DDIM")
        groups = [list(range(len(stops)))] if memoryless else [[i for i, s in enumerate(stops) if s == stop] for stop in sorted(set(stops))]
        for group in groups:
            scheduler.set_timesteps(num_inference_steps)
            current, rows = latents[group] * scheduler.init_noise_sigma, list(group)
            sampling = self._sampling(states[group], empty, guidance_scale, num_inference_steps)
            for step, timestep in enumerate([*scheduler.timesteps, None]):
                going = [k for k, row in enumerate(rows) if stops[row] > step and timestep is not None]
                for k in set(range(len(rows))) - set(going):
                    out[rows[k]] = current[k]
                    timesteps[rows[k]] = int(scheduler.timesteps[min(stops[rows[k]], num_inference_steps - 1)])
                if not going or timestep is None:
                    break
                current, rows = current[going], [rows[k] for k in going]
                sampling.keep(going)
                output = sampling.output(scheduler.scale_model_input(current, timestep), timestep, step)
                current = scheduler.step(output, timestep, current).prev_sample
        return out, timesteps

    def timestep(self, num_inference_steps: int, step: int) -> int:
        """The scheduler timestep at which a step of a schedule is taken."""
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_inference_steps)
        return int(scheduler.timesteps[step])

    @torch.no_grad()
    def generate(
        self,
        prompts: list[str],
        seeds: list[int],
        *,
        num_inference_steps: int = 25,
        guidance_scale: Scale = GUIDANCE_SCALE,
        batch_size: int = 32,
    ) -> Float[Tensor, "batch 3 height width"]:
        """Pictures in -1..1, one seed per picture and one guidance scale for all or for each; the batch size changes nothing but speed."""
        empty, pictures = self.encode(self.tokenize([""]).ids), []
        for i in tqdm(range(0, len(prompts), batch_size), desc="pictures", **self.progress_bar_options):
            states = self.encode(self.tokenize(prompts[i : i + batch_size]).ids)
            noise = self.initial_noise(seeds[i : i + batch_size])
            scale = guidance_scale[i : i + batch_size] if isinstance(guidance_scale, Tensor) else guidance_scale
            pictures.append(self.draw(states, noise, empty, num_inference_steps=num_inference_steps, guidance_scale=scale))
        return torch.cat(pictures)

    @torch.no_grad()
    def draw(
        self,
        states: Float[Tensor, "batch length features"],
        noise: Float[Tensor, "batch channels height width"],
        empty: Float[Tensor, "1 length features"],
        *,
        num_inference_steps: int,
        guidance_scale: Scale,
    ) -> Float[Tensor, "batch 3 height2 width2"]:
        """Pictures in -1..1 from text states, whatever they were made of, unit noise, and the empty prompt's states; one batch."""
        latents, _ = self.roll(noise.to(states.dtype), states, empty, num_inference_steps, num_inference_steps, guidance_scale)
        return self.decode(latents)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 3 height2 width2"]:
        """Pictures in -1..1 from scaled latents."""
        vae = self.pipeline.vae
        decoded: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
        return decoded.clamp(-1, 1)
