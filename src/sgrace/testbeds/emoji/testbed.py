"""The testbed of the built-in model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ...attacks import Prompt
from ...concept import Concept, Kind
from ...detectors import Detector
from ...knowledge import Knowledge
from ...metrics.extractor import Extractor
from ..base import PromptSet, Testbed
from ..questions import Questions, seeds_of
from . import vocabulary
from .clip import Clip
from .concepts import knowledge, path, resolve
from .detector import BuiltInClip, EmojiJudge
from .judge import Judge
from .measure import GUIDANCE_SCALE, STEPS, probes
from .retrained import gold_concepts, gold_evaluation, gold_path

#: Seed of the attacked prompts, which no retention question uses.
PROMPT_SEED = 1


class EmojiTestbed(Testbed):
    """What the built-in model brings with it, its judge and its retrained models among it."""

    name = "emoji"
    num_inference_steps = STEPS
    guidance_scale = GUIDANCE_SCALE
    detectors: ClassVar[Mapping[str, type[Detector]]] = {
        "emoji_judge": EmojiJudge,
        "clip_zero_shot": BuiltInClip,
    }
    default_detector = EmojiJudge.name
    prompt_sets = ("test", "validation")

    def path(self) -> Path:
        """Folder of the built-in pipeline."""
        return path()

    def kind_of(self, name: str) -> Kind:
        """Kind of a class, family, style or keyword."""
        return resolve(name).kind

    def concepts(self) -> tuple[str, ...]:
        """Families, styles and classes."""
        return (*vocabulary.FAMILIES, *vocabulary.STYLES, *vocabulary.classes())

    def words(self, concept: Concept) -> Knowledge:
        """From the keyword table, without the words held out for evaluation."""
        return knowledge(concept.name)

    def prompts(self, concept: Concept, n: int, prompt_set: PromptSet = "test") -> list[Prompt]:
        """The concept by name, in the styles of the model."""
        texts = probes(resolve(concept.name), n, PROMPT_SEED, prompt_set)["target"].prompts
        return [Prompt(text, seed) for text, seed in zip(texts, seeds_of(texts, PROMPT_SEED), strict=True)]

    def questions(self, concept: Concept, n: int, seed: int = 0, prompt_set: PromptSet = "test") -> Questions:
        """The retention questions of :func:`.measure.probes`, with the built-in judge."""
        found = resolve(concept.name)
        asked = probes(found, n, seed, prompt_set)
        judge = Judge.from_pretrained(path()).judge
        compared = "withheld unrelated"
        unrelated = asked[compared]
        if found.style is not None:  # unrelated images are asked for by class: the other domain of a style
            return Questions(judge, asked, ("withheld neighbours",), unrelated, compared)
        withheld = tuple(question for question in asked if question.startswith("withheld"))
        return Questions(judge, asked, withheld, unrelated.by_style(), compared)

    def features(self) -> Extractor:
        """The image and the text encoder of the built-in CLIP."""
        clip = Clip.from_pretrained(path())
        return Extractor("built-in CLIP image encoder", clip.images, clip.texts, clip.layers)

    def gold(self, concept: Concept) -> Path | None:
        """Of the concepts without which the model was trained anew."""
        return gold_path(concept.name) if concept.name in gold_concepts() else None

    def reference(self, concept: Concept, suite: str) -> Path | None:
        """Their evaluations, which are here without their weights."""
        return gold_evaluation(concept.name, suite)
