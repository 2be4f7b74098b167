"""TINA+ (arXiv 2608.17747): images of the concept, inverted and drawn again under the empty prompt."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from .._util.device import batches
from .._util.settings import Settings
from ..models.needs import Need
from ..models.schedule import Sampler
from .base import Attack
from .session import Session


class NullInversionConfig(Settings):
    """Settings; floor and weight of the energy are not known from the paper and are our own."""

    num_inference_steps: int = Field(50, ge=2, le=1000, description="DDIM steps of the whole schedule.")
    start: float = Field(
        0.1, gt=0, lt=1, description="Part of the way at which the inversion starts, from a noised image."
    )
    iterations: int = Field(25, ge=0, le=10_000, description="Refinements of each step, by AdamW.")
    lr: float = Field(1e-3, gt=0, description="Learning rate of AdamW.")
    energy_floor: float = Field(
        0.8, ge=0, le=1, description="Latents of less energy than this part of the diffusion's are penalised."
    )
    energy_weight: float = Field(1.0, ge=0, description="Weight of that penalty beside the step's error.")


class NullInversion(Attack[NullInversionConfig]):
    """Null-prompt inversion: the noise from which the target draws the original's images without any text.

    A denoiser that knows nothing can be inverted too if the search is long enough, so the figure says
    something only beside those of the gold model and of a random denoiser.
    """

    name = "null_inversion"
    access = "weights"
    paper = "arXiv 2608.17747"
    by_text = False
    needs = frozenset({Need.GRADIENTS, Need.DDIM})
    needs_control = True
    config_type = NullInversionConfig
    presets: ClassVar = {
        "quick": {"num_inference_steps": 10, "iterations": 2},
        "standard": {"num_inference_steps": 20, "iterations": 5},
    }

    def search(self, session: Session) -> None:
        """Invert the image of each open prompt and draw it again, a batch after the other."""
        model = session.target
        steps = self.config.num_inference_steps
        clean = session.concept_latents(self.name)
        noise = model.noise(len(clean), session.generator)
        indices = session.open
        # noise is drawn for all prompts above, so that the size of a batch changes no image
        for part in batches(len(indices), model.batch_size):
            own = indices[part]
            sampler = model.schedule.ddim_sampler(steps)
            inverted = self._inverted(session, sampler, clean[own], noise[own])
            cond = session.uncond.expand(len(own))
            # scale 1: guidance between the empty prompt and itself would change nothing
            session.charge_sampling(model, cond, steps, 1)
            done = model.denoise(
                inverted,
                cond,
                session.uncond,
                num_inference_steps=steps,
                guidance_scale=1,
                sampler=sampler,
            )
            session.judge(own, model.decode(done.latents).cpu(), {"noise": inverted})

    def _inverted(
        self,
        session: Session,
        sampler: Sampler,
        clean: Float[Tensor, "n ..."],
        noise: Float[Tensor, "n ..."],
    ) -> Float[Tensor, "n ..."]:
        """Latents of the first step from which the steps lead to the noised images."""
        schedule = session.target.schedule
        count = len(sampler.timesteps)
        # steps run from noise to image: a start near the image has a high index
        first = min(count - 1, count - round(self.config.start * count))
        latents = schedule.add_noise(clean, noise, sampler.timesteps[first].expand(len(clean)))
        # backwards, from the image to the noise: each step is undone from where the last one ended
        for step in reversed(range(first)):
            guess = self._guess(session, sampler, step, latents)
            latents = self._refined(session, sampler, step, guess, goal=latents, clean=clean)
        return latents

    @staticmethod
    @torch.no_grad()
    def _guess(
        session: Session, sampler: Sampler, step: int, latents: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n ..."]:
        """The plain inversion of a DDIM step: the denoiser's answer is taken at the step's end."""
        model = session.target
        n = len(latents)
        session.charge(denoiser_rows=n)
        end = sampler.timesteps[step + 1].expand(n)
        output = model.predict(latents, end, session.uncond.expand(n))
        # the same clean image and noise, mixed as the step's beginning mixes them
        reached = model.schedule.to_clean(output, latents, end)
        noise = model.schedule.to_noise(output, latents, end)
        return model.schedule.add_noise(reached, noise, sampler.timesteps[step].expand(n))

    def _refined(
        self,
        session: Session,
        sampler: Sampler,
        step: int,
        guess: Float[Tensor, "n ..."],
        *,
        goal: Float[Tensor, "n ..."],
        clean: Float[Tensor, "n ..."],
    ) -> Float[Tensor, "n ..."]:
        """The best latents met on the way from a guess: from them the step leads nearest to the goal."""
        model = session.target
        n = len(guess)
        timesteps = sampler.timesteps[step].expand(n)
        # mean squares of x_t = sqrt(a) x + sqrt(1 - a) e, by the two parts alone
        parts = [(clean, torch.zeros_like(clean)), (torch.zeros_like(clean), torch.ones_like(clean))]
        energy = sum(_energy(model.schedule.add_noise(*part, timesteps)) for part in parts)
        # the latents are the only leaf: no network is given a gradient
        latents = guess.clone().requires_grad_(True)
        optimizer = torch.optim.AdamW([latents], lr=self.config.lr)
        best = guess.clone()
        least = torch.full((n,), torch.inf, device=guess.device)
        for _ in range(self.config.iterations):
            session.charge(denoiser_rows=n, backward=True)
            output = model.predict(latents, timesteps, session.uncond.expand(n))
            error = _energy(sampler.step(output, step, latents, []) - goal)
            lack = F.relu(self.config.energy_floor * energy - _energy(latents))
            losses = error + self.config.energy_weight * lack.square()
            # losses are those of the latents before this update: (n,)
            is_best = losses.detach() < least
            best[is_best] = latents.detach()[is_best]
            least = torch.minimum(least, losses.detach())
            # each loss is of its own sample only, so the gradient of the sum is that of each
            (latents.grad,) = torch.autograd.grad(losses.sum(), latents)
            optimizer.step()
        return best


def _energy(latents: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Mean square of each sample."""
    return latents.square().flatten(1).mean(1)
