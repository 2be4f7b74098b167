"""STEREO (Srivatsan et al., arXiv 2408.16807): search words that bring the concept back, then erase all."""

from __future__ import annotations

from ...models import DiffusionModel
from .._shared.student import Student
from ..base import Change, Eraser, Job, Need
from ..esd import SITES
from .config import PRESETS, STEREOConfig
from .material import Material
from .prompts import anchor_prompts, contexts_of
from .search import fit, search_words
from .words import WordBank, WordsSampler


class STEREO(Eraser[STEREOConfig]):
    """Search for words that bring the concept back, then erase all of them from the original weights.

    Search: a word is erased as ESD does, then a new one is learned that makes the erased model show the
    concept; it is erased next. Then training restarts from the original weights, with one target for all
    words of a concept: ``eps('') - w_e * mean_i(eps(word_i) - eps('')) + w_a * (eps(anchor) - eps(''))``.

    Differs from the release: there the scale ``g = 2`` gives the words the weight ``g + 1`` and the anchor
    ``g - 1``, though a note calls ``g`` the weight plus one; both weights are 1 here, and 3 and 1 in
    ``as-released``. New words start at random tokens and are learned from images that the original generates;
    words and anchors are picked at random instead of in turns. Several concepts have words, images and
    anchors of their own and share the batches.

    Cost: a denoiser call for each step of each batch of images; the partial samples; a call for each
    iteration, and one of each network for each inversion step. Texts are encoded once, and once in each round
    with the learned word.
    """

    name = "stereo"
    paper = "arXiv 2408.16807"
    licence = "none stated"
    needs = frozenset({Need.GRADIENTS, Need.GENERATED_DATA})
    changes = "not_text_attention"
    config_type = STEREOConfig
    presets = PRESETS
    default_preset = "paper-sd14-nudity"

    @property
    def site(self) -> str:
        """The site that the settings name."""
        return SITES[self.config.site]

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept has no word of the kind that makes its anchors, or a context is so long that
                it would be cut.
        """
        config = self.config
        student = Student.of(job.model, self.site)
        patterns = [contexts_of(target, config.n_contexts, job.rng) for target in job.targets]
        anchors = anchor_prompts(config, job.targets, patterns, job.rng)
        if config.iterations:
            material = Material.of(config, job, patterns, anchors)
            source = student.model if config.sample_from == "edited" else job.model
            # the search ends with weights of its own; the erasure starts from the original ones
            original = student.snapshot()
            bank = search_words(config, job, student, source, material)
            student.restore(original)
            self._erase(job, student, source, material, bank)
        return Change(student.changed(), trained=student.size)

    def _erase(
        self, job: Job, student: Student, source: DiffusionModel, material: Material, bank: WordBank
    ) -> None:
        """Train the student away from all words together."""
        sampler = WordsSampler(
            self.config,
            job.model,
            source,
            bank.everything(),
            material.uncond,
            job.generator,
            bank=bank,
            anchors=material.anchors,
            # as many of each concept
            n_anchors=len(material.anchors) // bank.n_concepts,
            # replacements stand in the contexts of the words; other anchors have no context
            by_context=self.config.anchors == "replacement",
            anchor_weight=self.config.retain_weight,
        )
        fit(job, student, sampler, self.config.lr, self.config.weight_decay)
