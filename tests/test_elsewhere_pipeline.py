"""A real pipeline of small size trains and draws on the pretended device as on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from .conftest import tiny_pipeline
from .elsewhere import DEVICE, elsewhere


def losses_of_training(device: torch.device, checkpointing: bool) -> list[float]:
    """Two steps of Adam on the tiny UNet and text encoder, and a step of the sampler."""
    pipeline = tiny_pipeline()
    if checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.unet.train()
    pipeline.unet.to(device)
    pipeline.text_encoder.to(device)
    optimizer = torch.optim.Adam([*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()], lr=1e-2)
    rows = pipeline.tokenizer(
        ["a photo of a church", "dog"], padding="max_length", return_tensors="pt"
    ).input_ids
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(device)
    pipeline.scheduler.set_timesteps(3, device=device)
    losses = []
    for step in pipeline.scheduler.timesteps[:2]:
        states = pipeline.text_encoder(rows.to(device)).last_hidden_state
        output = pipeline.unet(noise, step, states).sample
        loss = F.mse_loss(output, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            noise = pipeline.scheduler.step(output, step, noise).prev_sample
            noise = pipeline.scheduler.add_noise(noise, torch.ones_like(noise), step[None].expand(2))
        assert noise.device == device
        losses.append(loss.item())
    return [*losses, noise.double().sum().item()]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_a_real_pipeline_elsewhere_gives_what_it_gives_at_home(checkpointing: bool) -> None:
    at_home = losses_of_training(torch.device("cpu"), checkpointing)
    with elsewhere():
        assert losses_of_training(DEVICE, checkpointing) == pytest.approx(at_home, rel=1e-4)


def test_a_whole_pipeline_draws_elsewhere() -> None:
    with elsewhere():
        pipeline = tiny_pipeline().to(DEVICE)
        pipeline.set_progress_bar_config(disable=True)
        seeded = torch.Generator().manual_seed(0)
        images = pipeline("a church", num_inference_steps=2, generator=seeded, output_type="pt").images
        assert images.device == DEVICE


@pytest.mark.parametrize("left_behind", ["rows", "noise", "timestep"])
def test_a_part_of_a_real_pipeline_left_at_home_is_found(left_behind: str) -> None:
    def predict(left_behind: str) -> torch.Tensor:
        pipeline = tiny_pipeline().to(DEVICE)
        place = {name: "cpu" if name == left_behind else DEVICE for name in ("rows", "noise", "timestep")}
        rows = torch.tensor([[52, 1, 2, 53]]).to(place["rows"])
        states = pipeline.text_encoder(rows).last_hidden_state
        timestep = torch.tensor([3.0]).to(place["timestep"])
        output: torch.Tensor = pipeline.unet(
            torch.ones(1, 3, 4, 4).to(place["noise"]), timestep, states
        ).sample
        return output

    with elsewhere():
        assert predict("nothing").device == DEVICE
        with pytest.raises(AssertionError, match="mixes devices"):
            predict(left_behind)
