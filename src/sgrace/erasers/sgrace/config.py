"""Settings of S-GRACE: every repair of the published algorithm is one switch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ..._util.errors import InputError
from ..._util.settings import Settings
from .._shared.embedding_attack import Optimizer, Projection
from .._shared.settings import (
    AdamRate,
    BatchSize,
    Count,
    Encoders,
    Iterations,
    PartialGuidance,
    PartialSteps,
)
from ..esd import SiteName


class SGraceConfig(Settings):
    """Settings of S-GRACE (arXiv 2510.27285); defaults are those of the ``replacement`` preset."""

    # -- switches between the published algorithm and its repairs --
    samples: Literal["word_lists", "prompts"] = Field(
        "prompts",
        description="Adversarial samples start from comma-joined word_lists, or from prompts of one word "
        "each.",
    )
    latent_timestep: Literal["count_from_noise", "matched"] = Field(
        "matched",
        description="count_from_noise gives the denoiser a nearly clean latent with a high timestep; matched "
        "gives the latent's own timestep.",
    )
    latent_sampler: Literal["own", "ddim"] = Field(
        "own", description="The partial samples take steps of the model's own sampler, or of ddim."
    )
    attack_target: Literal["initial_noise", "frozen_prediction"] = Field(
        "frozen_prediction",
        description="The attack imitates the initial_noise, or the frozen_prediction of the original for the "
        "concept.",
    )
    n_pairs: int = Field(
        1, ge=1, le=64, description="Pairs of latent and timestep that the attack uses in turn."
    )
    feature_position: Literal["last_content", "first_eot"] = Field(
        "first_eot",
        description="The samples' text features are read at the last_content token, or at the first_eot "
        "(end) token; the concept's own always at the end token.",
    )
    attack_optimizer: Optimizer = Field(
        "sign_pgd",
        description="sign_adam feeds the gradient's sign to Adam; sign_pgd takes plain sign steps; adam is "
        "Adam.",
    )
    projection: Projection = Field(
        "ball",
        description="Embeddings are not projected (none), kept within four steps of their start (ball), or "
        "also within the range of their sample (ball_then_range).",
    )
    carry: bool = Field(
        False, description="Samples continue from their attacked embeddings of the round before."
    )
    keep_bare_name: bool = Field(
        True, description="The first sample is the concept's name alone in every round."
    )
    retain_words: Literal["raw", "filtered"] = Field(
        "filtered",
        description="raw keeps repeated words, and unrelated words that are related too; filtered drops "
        "them.",
    )
    retain_draw: Literal["pool", "distinct_words"] = Field(
        "pool",
        description="Retain prompts of a step come from a pool of prompts, or are as many distinct words, "
        "each in one of three plain phrasings.",
    )
    erase_target: Literal["opposite", "hinge", "replacement"] = Field(
        "replacement",
        description="Features are pushed opposite to the concept's, below the similarity of unrelated words "
        "(hinge), or onto those of a replacement.",
    )
    match_positions: Literal["one", "all"] = Field(
        "all", description="The erase target constrains one text position, or all."
    )

    # -- length --
    rounds: int = Field(12, ge=0, le=1000, description="Rounds of an attack and a training phase.")
    attack_steps: int = Field(20, ge=0, le=10_000, description="Steps of the attack in each round.")
    edit_steps: int = Field(30, ge=0, le=100_000, description="Training steps in each round.")

    # -- adversarial samples --
    n_adversarial: int = Field(16, ge=1, le=512, description="Adversarial samples of each concept.")
    clean_share: float = Field(
        0.5, ge=0, lt=1, description="Share of the samples that are erased without an attack."
    )
    words_min: int = Field(3, ge=1, le=75, description="Least words in a word list.")
    words_max: int = Field(10, ge=1, le=75, description="Most words in a word list.")
    random_ids: int = Field(
        2,
        ge=0,
        le=60,
        description="Random tokens in each attacked sample, before the words; the replacement's prompt has "
        "the same ones.",
    )
    random_id_limit: int | None = Field(
        None, ge=1, description="Random tokens have ids below this; any ordinary token, if absent."
    )
    update_chance: float = Field(
        0.15, ge=0, le=1, description="Probability that a carried sample is replaced by a new one."
    )
    attack_lr: float = Field(
        0.005, ge=0, description="Step size of the attack; the radius of the projection is four steps."
    )
    attack_feature_weight: float = Field(
        0.1, ge=0, description="Weight of the alignment with the concept's text feature in the attack."
    )

    # -- adversarial samples without words --
    learned_words: int = Field(
        0,
        ge=0,
        le=100,
        description="Words that each round learns against the model as it is, for each concept; none is "
        "discarded.",
    )
    learned_rows: int = Field(12, ge=1, le=512, description="Prompts with learned words in a training step.")
    inversion_steps: Iterations = Field(30, description="Steps of learning a word.")
    inversion_batch: BatchSize = Field(4, description="Images in such a step, for each word.")
    inversion_lr: AdamRate = Field(0.02, description="Learning rate of such a step.")
    soft_prompts: int = Field(
        0, ge=0, le=512, description="Prompts of free embeddings alone in each round, for each concept."
    )
    soft_length: int = Field(8, ge=1, le=75, description="Free embeddings in such a prompt.")
    soft_lr: AdamRate = Field(0.02, description="Learning rate of Adam for these prompts.")

    # -- training --
    encoders: Encoders = "clip"
    padding_every: int = Field(
        1,
        ge=1,
        le=1000,
        description="Every so many training steps of a round compare the padding too; the others end at the "
        "last end token, where the model has one text encoder.",
    )
    lr: AdamRate = 4e-4
    lr_decay: Literal["none", "cosine"] = Field(
        "none", description="The learning rate stays, or falls to 0 over all rounds as a cosine does."
    )
    erase_weight: float = Field(1.0, ge=0, description="Weight of the erase loss.")
    similarity_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the cosine distance to the samples' features at the start of the round.",
    )
    parameter_weight: float = Field(
        0.0, ge=0, description="Weight of the L1 distance to the original parameters."
    )
    parameter_rule: Literal["always", "opposing"] = Field(
        "always",
        description="The L1 distance counts always or, with a weight that grows from 0 to parameter_weight, "
        "only where its gradient opposes that of the erase loss.",
    )
    proximal_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of a proximal step of the L1 distance to the original parameters: after each "
        "training step every change shrinks by so many learning rates, and a smaller one vanishes.",
    )
    discriminator_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the loss that fools a discriminator of text positions, which learns to tell "
        "the samples from their goals.",
    )
    retain_weight: float = Field(5.0, ge=0, description="Weight of the retain loss.")
    n_retain: int = Field(36, ge=1, le=1024, description="Retain prompts in a training step.")
    retain_pool: Count = Field(768, description="Retain prompts, chosen and encoded once.")
    near_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the retain prompts with listed words whose words come from the quarter nearest "
        "to the concept.",
    )
    random_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the retain prompts whose word is drawn from the vocabulary; words that are "
        "nearer to the concept than three quarters of its unrelated words are not drawn. Where too few are "
        "left, listed words take their places.",
    )
    replacement: str | None = Field(None, description="Replacement concept; chosen automatically, if absent.")
    replacement_rule: Literal["nearest", "least_alike"] = Field(
        "nearest",
        description="An automatic replacement is the candidate that is nearest by its text or, of the six "
        "nearest, the one whose images the concept's words explain worst.",
    )
    replacement_ceiling: float = Field(
        0.95, gt=0, le=1, description="Highest cosine of an automatically chosen replacement to the concept."
    )

    # -- second stage: the denoiser --
    denoiser_steps: int = Field(
        0, ge=0, le=100_000, description="Training steps of the denoiser, after the text encoder."
    )
    denoiser_site: SiteName = "all"
    denoiser_lr: AdamRate = Field(3e-4, description="Highest learning rate of Adam for the denoiser.")
    denoiser_rows: int = Field(8, ge=8, le=1024, description="Images of each concept in such a step.")
    denoiser_retain: int = Field(36, ge=2, le=1024, description="Retain prompts in such a step.")
    denoiser_retain_weight: float = Field(2.0, ge=0, description="Weight of the retain loss in such a step.")
    concept_images: Count = Field(
        288, description="Images of each concept, and as many with its replacement from the same noise."
    )
    path_prompts: Count = Field(384, description="Retain prompts whose sampling paths are learned from.")
    path_random_share: float = Field(
        0.6,
        ge=0,
        lt=1,
        description="Share of these that have a word of the vocabulary, if it draws something else than the "
        "concept.",
    )
    path_near_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the vocabulary's words that are the nearest to the concept; of the listed ones "
        "as near_share.",
    )
    path_steps: int = Field(
        8,
        ge=1,
        le=1000,
        description="Steps of a sampling path, and of each image of a concept or a possible replacement.",
    )
    denoiser_strength: float = Field(
        1.0, gt=0, le=1, description="Part of the denoiser's change that is applied, in a straight line."
    )

    # -- partial samples that give the latents; images are guided as much --
    num_inference_steps: PartialSteps = 50
    guidance_scale: PartialGuidance = 3.0
    timestep_low: float = Field(
        0.75, ge=0, lt=1, description="Lowest noise level of the attack, as a share of the schedule."
    )
    timestep_high: float = Field(
        0.95, gt=0, le=1, description="Highest noise level of the attack, as a share of the schedule."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.words_min > self.words_max or self.timestep_low >= self.timestep_high:
            raise InputError(
                "words_min must not exceed words_max, and timestep_low must be below timestep_high."
            )
        if self.denoiser_steps and self.erase_target == "opposite":
            raise InputError(
                "denoiser_steps needs a replacement for the concept, and erase_target=opposite has none."
            )
        if self.random_share and self.retain_draw == "distinct_words":
            raise InputError("random_share needs retain_draw=pool: distinct_words draws listed words only.")
        if not self.rounds and (self.learned_words or self.soft_prompts or self.discriminator_weight):
            raise InputError("learned_words, soft_prompts and discriminator_weight need rounds above 0.")
        states = self.erase_target == "replacement" and self.match_positions == "all"
        if not states and (self.learned_words or self.soft_prompts or self.discriminator_weight):
            raise InputError(
                "learned_words, soft_prompts and discriminator_weight need erase_target=replacement and "
                "match_positions=all."
            )
        return self
