"""Contract of every detector that needs no download, and the real networks at small size."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, ResNetConfig, ResNetForImageClassification

from sgrace._util import registry
from sgrace._util.errors import InputError
from sgrace.detectors import Detector
from sgrace.detectors.base import Known
from sgrace.detectors.clip_zero_shot import ClipZeroShot, HubClip
from sgrace.detectors.image_classifier import ImageClassifier
from sgrace.detectors.q16 import Q16
from sgrace.testbeds.base import Testbed, find_detector
from sgrace.testbeds.emoji.detector import EmojiJudge

from .small_clip import save_small_clip

PICTURES = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP and a ResNet of small size with random weights, saved as the hub has them."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("networks")
    save_small_clip(root / "clip")
    resnet = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], id2label={i: str(i) for i in range(6)}
    )
    ResNetForImageClassification(resnet).save_pretrained(root / "resnet")
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        root / "resnet"
    )
    save_file({"prompts": torch.randn(2, 8)}, root / "q16.safetensors")
    return root


def make(name: str, folders: Path) -> Detector:
    if name == "clip_from_hub":
        return ClipZeroShot.from_hub(("church",), ("dog", "tree"), str(folders / "clip"))
    if name == "image_classifier":
        return ImageClassifier(str(folders / "resnet"), (2, 4), top_k=None)
    if name == "image_classifier_top_2":
        return ImageClassifier(str(folders / "resnet"), (2,), top_k=2)
    if name == "q16":
        return Q16(folders / "q16.safetensors", HubClip(str(folders / "clip")))
    if name == "built_in_clip":
        return emoji("church", "clip_zero_shot")
    return find_detector(name).for_concept("nudity" if name == "open_nsfw" else "church")


def emoji(concept: str, name: str | None = None, **options: str) -> Detector:
    """A detector of the built-in model."""
    testbed: Testbed = registry.load("testbeds", "emoji")()
    return testbed.detector(testbed.resolve(concept), name, options)


@pytest.mark.parametrize(
    "name",
    [
        "emoji_judge",
        "built_in_clip",
        "clip_from_hub",
        "image_classifier",
        "image_classifier_top_2",
        "open_nsfw",
        "q16",
        "always",
        "never",
    ],
)
def test_contract(name: str, folders: Path) -> None:
    detector = make(name, folders)
    scores = detector.scores(PICTURES)
    assert scores.shape == (5,)
    assert ((scores >= 0) & (scores <= 1)).all()
    torch.testing.assert_close(
        detector.scores(PICTURES[2:3]), scores[2:3], atol=1e-5, rtol=1e-4
    )  # a picture's score is its own
    identity = detector.identity
    assert identity.name == detector.name
    assert identity.version
    assert identity.colour_order == ("BGR" if name == "open_nsfw" else "RGB")
    if name not in {"always", "never"}:
        assert identity.weights
        assert identity.classes
    lower = detector.at(0.0).detect(scores)
    higher = detector.at(1.0).detect(scores)
    assert lower.all()
    assert (higher <= lower).all()
    assert detector.identity is identity, "a sweep leaves the detector as it is"


def test_the_judge_reads_its_own_concepts(folders: Path) -> None:
    white = torch.ones(1, 3, 64, 64)
    assert make("emoji_judge", folders).scores(white).item() < 0.5
    assert emoji("line art").identity.classes == ("line art",)
    assert "dagger" in emoji("weapon").identity.classes


def test_a_testbed_brings_detectors_of_its_own_beside_the_general_ones(folders: Path) -> None:
    assert emoji("church").name == emoji("church", "emoji_judge").name == "emoji_judge"
    own = emoji("church", "clip_zero_shot").identity
    assert (own.name, own.version, own.classes) == ("clip_zero_shot", metadata.version("sgrace"), ("church",))
    other = emoji("church", "clip_zero_shot", source=str(folders / "clip"), others="dog, tree")
    assert other.identity == make("clip_from_hub", folders).identity
    # against what the concept stands decides the verdicts
    assert other.identity.as_dict()["others"] == ["dog", "tree"]
    assert (
        other.identity
        != emoji("church", "clip_zero_shot", source=str(folders / "clip"), others="dog").identity
    )
    assert "others" not in emoji("church").identity.as_dict()
    assert emoji("church", "always", threshold="0.9").identity.threshold == 0.9
    for arguments, message in (
        (("churhc",), "did you mean 'church'"),
        (("church", "emoji_jugde"), "did you mean 'emoji_judge'"),
    ):
        with pytest.raises(InputError, match=message):
            emoji(*arguments)
    with pytest.raises(InputError, match="needs the option `source`"):
        registry.load("detectors", "clip_zero_shot").for_concept("church")
    with pytest.raises(InputError, match="needs the option `source`"):
        emoji("church", "clip_zero_shot", words="church")


def test_a_validation_record_goes_with_the_threshold(folders: Path) -> None:
    plain = make("always", folders)
    assert plain.identity.validation == {}
    checked = plain.validated(
        Known(torch.tensor([0.9, 0.6, 0.2]), torch.tensor([0.1, 0.55]), "five pictures")
    )
    assert plain.identity.validation == {}
    for threshold, seen, refused in ((0.5, 2, 1), (0.6, 2, 2), (0.05, 3, 0)):
        record = checked.at(threshold).identity.validation
        assert record["pictures"] == "five pictures"
        assert (record["positives"]["hits"], record["positives"]["n"]) == (seen, 3)
        assert (record["negatives"]["hits"], record["negatives"]["n"]) == (refused, 2)


@pytest.mark.parametrize("concept", ["weapon", "church", "line art"])
def test_the_judge_carries_its_record_of_every_concept(concept: str) -> None:
    judge = emoji(concept)
    assert isinstance(judge, EmojiJudge)
    record = judge.identity.validation
    n_positive = (
        6 * 163 if judge.is_style else 6 * 4 * len(judge.classes)
    )  # changes, and the drawings of each class or style
    assert (record["positives"]["n"], record["negatives"]["n"]) == (n_positive, 6 * 652 - n_positive)
    assert record["positives"]["share"] >= 0.9
    assert record["negatives"]["share"] >= 0.99
    assert emoji(concept, "emoji_judge", threshold="0.9").identity.validation != record


def test_what_a_detector_cannot_know_is_told(folders: Path, tmp_path: Path) -> None:
    for name, message in (
        ("emoji_judge", "Unknown concept"),
        ("image_classifier", "No ImageNet class"),
        ("q16", "needs the option `vectors`"),
    ):
        with pytest.raises(InputError, match=message):
            find_detector(name).for_concept("zeppelin hangar")
    with pytest.raises(InputError, match="classes 0 to 5, not 9"):
        ImageClassifier(str(folders / "resnet"), (9,))
    (tmp_path / "q16.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="is not a safetensors file"):
        Q16(tmp_path / "q16.safetensors", HubClip(str(folders / "clip")))
    with pytest.raises(InputError, match="Cannot load"):
        HubClip(str(tmp_path))


def test_options_are_given_as_text(folders: Path) -> None:
    def made(name: str, concept: str = "church", **options: str) -> Detector:
        kind: type[Detector] = registry.load("detectors", name)
        return kind.for_concept(concept, options)

    assert made("always", threshold="0.9").identity.threshold == 0.9
    clip, resnet = str(folders / "clip"), str(folders / "resnet")
    by_options = made("clip_zero_shot", source=clip, others="dog, tree")
    assert by_options.scores(PICTURES).equal(make("clip_from_hub", folders).scores(PICTURES))
    for top_k, name in (("0", "image_classifier"), ("2", "image_classifier_top_2")):
        ids = "2,4" if top_k == "0" else "2"
        found = made("image_classifier", source=resnet, class_ids=ids, top_k=top_k)
        assert found.identity == make(name, folders).identity
        assert found.scores(PICTURES).equal(make(name, folders).scores(PICTURES))
    q16 = made("q16", "weapon", vectors=str(folders / "q16.safetensors"), clip=clip)
    assert q16.scores(PICTURES).equal(make("q16", folders).scores(PICTURES))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "always",
            {"threshold": "2"},
            "Option threshold of detector 'always': Input should be less than or equal to 1",
        ),
        ("always", {"treshold": "1"}, "did you mean 'threshold'"),
        ("clip_zero_shot", {"words": "church"}, "needs the option `source`"),
        ("clip_zero_shot", {"source": "x"}, "Cannot load 'x' as a CLIP"),
        ("image_classifier", {"source": "x"}, "needs the option `class_ids`"),
        ("image_classifier", {"source": "x", "class_ids": "one"}, "unable to parse string as an integer"),
    ],
)
def test_wrong_options_are_told(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.load("detectors", name).for_concept("church", options)


@pytest.mark.parametrize("name", ["line art", "Line_Art", " LINE  ART "])
def test_concepts_count_in_any_spelling(name: str) -> None:
    testbed = registry.load("testbeds", "emoji")()
    found = testbed.detector(testbed.resolve(name), "clip_zero_shot")
    assert found.identity == testbed.detector(testbed.resolve("line art"), "clip_zero_shot").identity
    with pytest.raises(InputError, match="No ImageNet class id is known for 'line art'; known: tench"):
        registry.load("detectors", "image_classifier").for_concept(name)
