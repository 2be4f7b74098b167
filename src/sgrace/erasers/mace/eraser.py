"""MACE (Lu et al., arXiv 2403.06135): closed-form edits and low-rank adapters.

The edits act on what stands around a concept's tokens, the adapters on the tokens themselves.
"""

from __future__ import annotations

from .._shared.closed_form import EditTerm, FusionTerm, edit_matrices, fuse_matrices
from .._shared.generated_data import Texts
from ..base import Change, Eraser, Job, Need
from .adapters import concept_images, trained_changes
from .config import PRESETS, MACEConfig
from .prompts import other_embeds, phrases_of, retained_prompts


class MACE(Eraser[MACEConfig]):
    """Three stages.

    1. *Refine*: edit keys and values in closed form so that tokens beside the concept are read as beside the
    replacement.
    2. Train one low-rank adapter per concept that suppresses attention from the concept's place to its
    tokens.
    3. *Fuse* all adapters into one set of key and value matrices in closed form.

    Differs from the release: places come from the model's own attention instead of a segmentation network,
    and the retained prompts are unrelated words instead of captions.

    Cost: ``num_inference_steps`` denoiser calls for each batch of images and one for their masks, one for
    each iteration of each concept; every text is encoded once.
    """

    name = "mace"
    paper = "arXiv 2403.06135"
    licence = "NTU licence, non-commercial"
    needs = frozenset({Need.GRADIENTS, Need.SHARED_TEXT_KV, Need.ATTENTION_MAPS, Need.GENERATED_DATA})
    changes = "text_kv"
    config_type = MACEConfig
    presets = PRESETS
    default_preset = "paper-sd14-object"

    def change(self, job: Job) -> Change:
        """See :meth:`Eraser.change`.

        Raises:
            InputError: a concept has no replacement and the settings name none; a closed form cannot be
                solved.
        """
        config = self.config
        model = job.model
        matrices = {name: value.float() for name, value in model.sites.parameters(self.site).items()}
        original = list(matrices.values())
        phrases = [phrases_of(model, config, target, job.generator) for target in job.targets]
        retained = retained_prompts(job.targets, config.n_prompts, job.generator)
        everyone = [phrase for own in phrases for phrase in own]
        both = [text for phrase in everyone for text in (phrase.text, phrase.replaced)]
        texts = Texts(model, ["", *retained, *both])
        # closed forms read tokens, whatever prompt they are of: (n, length, width) -> (n * length, width)
        retained_embeds = texts(retained).prompt_embeds.flatten(0, 1)

        # 1. refine
        beside, wanted = other_embeds(texts, everyone)
        stay = EditTerm(retained_embeds, retained_embeds, config.refine_retain)
        refined = edit_matrices(original, [EditTerm(beside, wanted, 1.0), stay], config.ridge)

        # 2. train, each concept from the refined matrices
        fusion = []
        start = dict(zip(matrices, refined, strict=True))
        for own, images in zip(phrases, concept_images(config, job, texts, phrases), strict=True):
            changes = trained_changes(config, job, start, texts, images)
            with_adapter = [matrix + change for matrix, change in zip(refined, changes, strict=True)]
            inputs = texts(phrase.text for phrase in own).prompt_embeds.flatten(0, 1)
            fusion.append(FusionTerm(inputs, with_adapter, 1.0))

        # 3. fuse
        fusion.append(FusionTerm(retained_embeds, original, config.fuse_retain))
        # one set of matrices again: each concept's change is wanted on that concept's own inputs
        fused = fuse_matrices(refined, fusion, config.ridge)
        tensors = {model.denoiser_component: dict(zip(matrices, fused, strict=True))}
        return Change(tensors, trained=sum(matrix.numel() for matrix in fused))
