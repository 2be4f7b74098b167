"""The training recipe: five stages in order, each resumable, and the export to a pipeline folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from ...._util.errors import InputError
from ..judge import Judge
from .autoencoder import encode_all, train_autoencoder
from .denoiser import new_denoiser, train_denoiser
from .encoders import PROJECTION, new_clip, train_clip, train_tokenizer
from .judge_training import left_out_pairs, new_judge, train_judge
from .presets import CPU, PRESETS
from .training_data import EmojiData, to_float

INITIAL = "initial"  # subfolder of networks from which a stage starts
RETRAINABLE = ("clip", "denoiser", "judge")
STAGES = ("tokenizer", "clip", "autoencoder", "denoiser", "judge")


class Recipe:
    """Runs stages in ``work``; every finished stage leaves a folder or file there, and is not run again.

    Args:
        work: folder of art, checkpoints and finished stages.
        preset: key of :data:`PRESETS`.
        seed: same seed, same weights on the same machine.
        steps: in place of the preset's, for every network.
        without: concept that the generator must never see: the result is what a perfect erasure would leave.

    Raises:
        InputError: the preset needs a device that is not there, or the concept is unknown.
    """

    def __init__(
        self, work: Path, preset: str, seed: int, steps: int | None = None, without: str | None = None
    ) -> None:
        self.work, self.seed, self.preset = work, seed, PRESETS[preset]
        if steps is not None:
            stages = [stage for stage in STAGES if hasattr(self.preset, stage)]
            self.preset = replace(
                self.preset,
                **{stage: replace(getattr(self.preset, stage), steps=steps) for stage in stages},
            )
        self.device = torch.device("cuda" if preset == "gpu" else "cpu")
        if preset == "gpu" and not torch.cuda.is_available():
            raise InputError(
                "--preset gpu needs a CUDA device, and torch finds none; --preset cpu runs anywhere."
            )
        work.mkdir(parents=True, exist_ok=True)
        if (record := work / "without.json").exists() and (
            before := json.loads(record.read_text())
        ) != without:
            raise InputError(
                f"{work} holds a training without {before or 'nothing'}, "
                f"not without {without or 'nothing'}; name another folder."
            )
        record.write_text(json.dumps(without))
        self.without = without
        self.data = EmojiData(work / "art", without)

    @classmethod
    def found_in(cls, work: Path) -> Recipe:
        """The recipe of a work folder, to export what it made."""
        record = work / "without.json"
        return cls(work, "cpu", 0, without=json.loads(record.read_text()) if record.exists() else None)

    def run(self, stages: tuple[str, ...]) -> None:
        """Run the named stages, in the recipe's order."""
        for stage in STAGES:
            if stage in stages and not (self.work / stage).exists():
                started = time.monotonic()
                loss = getattr(self, f"_{stage}")()
                record = {
                    "stage": stage,
                    "seconds": round(time.monotonic() - started),
                    "loss": loss,
                    "seed": self.seed,
                    "threads": torch.get_num_threads(),
                }
                if stage != "tokenizer":
                    record["schedule"] = asdict(getattr(self.preset, stage))
                with (self.work / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")

    def _finish(self, stage: str, partial: Path) -> None:
        partial.rename(self.work / stage)  # a stage's folder appears whole or not at all

    def _partial(self, stage: str) -> Path:
        path = self.work / f"{stage}.partial-folder"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def _tokenizer(self) -> None:
        partial = self._partial("tokenizer")
        train_tokenizer(self.data, partial)
        self._finish("tokenizer", partial)

    def _clip(self) -> float:
        initial: Any = (
            CLIPModel.from_pretrained(start)
            if (start := self._initial("clip"))
            else new_clip(self.tokenizer(), self.seed)
        )
        clip, loss = train_clip(
            self.data, initial.to(self.device), self.tokenizer(), self.work, self.preset.clip, self.seed
        )
        partial = self._partial("clip")
        clip.save_pretrained(partial)
        self._finish("clip", partial)
        return loss

    def _autoencoder(self) -> float:
        autoencoder, loss = train_autoencoder(
            self.data, self.work, self.preset.autoencoder, self.seed, self.device
        )
        autoencoder = autoencoder.cpu()
        latents = encode_all(autoencoder, to_float(self.data.images[self.data.generator_pictures]))
        autoencoder.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
        partial = self._partial("autoencoder")
        autoencoder.save_pretrained(partial)
        self._finish("autoencoder", partial)
        return loss

    def _denoiser(self) -> float:
        text_encoder = self.text_encoder()
        width = text_encoder.config.hidden_size
        start = self._initial("denoiser")
        initial = (
            UNet2DConditionModel.from_pretrained(start)
            if start
            else new_denoiser(width, self.seed, self.preset.widths)
        )
        denoiser, loss = train_denoiser(
            self.data,
            initial.to(self.device),
            text_encoder,
            self.tokenizer(),
            self.autoencoder(),
            self.work,
            self.preset.denoiser,
            self.seed,
        )
        partial = self._partial("denoiser")
        denoiser.save_pretrained(partial)
        self._finish("denoiser", partial)
        return loss

    def _judge(self) -> float:
        start = self._initial("judge")
        initial = Judge.from_pretrained(start) if start else new_judge(self.seed)
        judge, loss = train_judge(
            self.data,
            initial,
            self.autoencoder().to(self.device),
            self.work,
            self.preset.judge,
            self.seed,
            self.device,
        )
        partial = self._partial("judge")
        _save_judge(judge, partial)
        self._finish("judge", partial)
        return loss

    def left_out_judge(self) -> tuple[Judge, Tensor]:
        """A judge that never saw some of the drawings, and their indices; trained on the first call."""
        left_out = left_out_pairs(self.data)
        folder = self.work / "judge-left-out"
        if not folder.exists():
            judge, _ = train_judge(
                self.data,
                new_judge(self.seed),
                self.autoencoder().to(self.device),
                self.work,
                self.preset.judge,
                self.seed,
                self.device,
                left_out,
            )
            partial = self._partial(folder.name)
            _save_judge(judge, partial)
            self._finish(folder.name, partial)
        return Judge.from_pretrained(folder), left_out

    def _initial(self, stage: str) -> Path | None:
        folder = self.work / INITIAL / stage
        return folder if folder.is_dir() else None

    def adopt(self, pipeline: Path, retrain: Collection[str] = ()) -> None:
        """Take the parts of an exported pipeline, where this work folder has none.

        Parts count as finished stages, so that the rest is trained on them; the networks of the stages in
        ``retrain`` (``clip``, ``denoiser``, ``judge``) are where their training starts instead. Encoders and
        denoiser are not taken by a recipe that leaves a concept out: theirs have seen it. A denoiser of
        other widths is not taken either.
        """
        seen = set() if self.without is None else {"clip", "denoiser"}
        if self.preset.widths != CPU.widths:
            seen.add("denoiser")
        places = {
            s: self.work / INITIAL / s if s in retrain and s in RETRAINABLE else self.work / s for s in STAGES
        }
        folders = {"tokenizer": "tokenizer", "autoencoder": "vae", "denoiser": "unet"}
        for stage, folder in folders.items():
            if stage not in seen and not places[stage].exists() and (pipeline / folder).is_dir():
                shutil.copytree(pipeline / folder, places[stage])
        if not places["judge"].exists():
            places["judge"].mkdir(parents=True)
            shutil.copy(pipeline / "judge.safetensors", places["judge"])
        if "clip" not in seen and not places["clip"].exists():
            text = CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=torch.float32)
            vision = CLIPVisionModelWithProjection.from_pretrained(
                pipeline / "image_encoder", dtype=torch.float32
            )
            clip = CLIPModel(
                CLIPConfig(
                    text_config=text.config.to_dict(),
                    vision_config=vision.config.to_dict(),
                    projection_dim=PROJECTION,
                )
            )
            clip.text_model.load_state_dict(text.state_dict())
            clip.vision_model.load_state_dict(vision.vision_model.state_dict())
            clip.visual_projection.load_state_dict(vision.visual_projection.state_dict())
            shared = load_file(pipeline / "text_projection.safetensors")
            clip.text_projection.weight.data.copy_(shared["weight"])
            clip.logit_scale.data.copy_(shared.get("logit_scale", clip.logit_scale))
            clip.save_pretrained(places["clip"])

    def tokenizer(self) -> CLIPTokenizer:
        """The trained tokenizer."""
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(self.work / "tokenizer")
        return tokenizer

    def clip(self) -> CLIPModel:
        """The trained pair of encoders."""
        clip: CLIPModel = CLIPModel.from_pretrained(self.work / "clip").eval()
        return clip

    def text_encoder(self) -> CLIPTextModel:
        """The trained text encoder alone."""
        clip = self.clip()
        settings: Any = clip.config.text_config
        encoder = CLIPTextModel(CLIPTextConfig(**settings.to_dict()))
        encoder.load_state_dict(clip.text_model.state_dict())
        encoder.eval().requires_grad_(False)
        return encoder

    def autoencoder(self) -> AutoencoderTiny:
        """The trained autoencoder."""
        return AutoencoderTiny.from_pretrained(self.work / "autoencoder").eval().requires_grad_(False)


def _save_judge(judge: Judge, folder: Path) -> None:
    state = {
        name: value.cpu().half() if value.is_floating_point() else value.cpu()
        for name, value in judge.state_dict().items()
    }
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "judge.safetensors")
