"""Any model goes the same way to a scene: with a testbed, with files, or with both."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sgrace._util.errors import InputError, InputWarning
from sgrace.attacks import Prompt
from sgrace.concept import Concept
from sgrace.detectors.always import Always
from sgrace.erasers.uce import UCE
from sgrace.knowledge import Knowledge, Target
from sgrace.models import DiffusionModel
from sgrace.testbeds.emoji import EmojiTestbed
from sgrace.testbeds.files import FileTestbed
from sgrace.testbeds.loading import Loaded, load_model, load_target
from sgrace.testbeds.scenes import find_testbed, prepare, scene_of

CHURCH = Concept(name="church")
PROMPTS = [Prompt("a photo of church", 3)]


def test_files_alone_are_a_testbed(words: Knowledge) -> None:
    testbed = FileTestbed(words, PROMPTS, "always", detector_options={"threshold": "0.9"}, kind="style")
    assert testbed.missing() == ()
    assert testbed.resolve("Church") == Concept(name="church", kind="style")
    assert testbed.words(CHURCH) == words
    assert testbed.prompts(CHURCH, 99) == PROMPTS
    assert testbed.detector(CHURCH).identity.threshold == 0.9
    assert testbed.detector(CHURCH, "never").name == "never"
    assert testbed.questions(CHURCH, 4) is None
    assert testbed.features() is None
    assert testbed.reference(CHURCH, "quick") is None


def test_what_is_not_given_and_not_known_is_told(words: Knowledge) -> None:
    testbed = FileTestbed(words)
    assert testbed.missing() == ("prompts", "detector")
    assert testbed.kind_of("church") is None
    assert testbed.resolve("church").kind is None, "not guessed"
    with pytest.raises(InputError, match="--prompts"):
        testbed.prompts(CHURCH, 5)
    with pytest.raises(InputError, match="--detector"):
        testbed.detector(CHURCH)
    with pytest.raises(InputError, match="--words"):
        FileTestbed().words(CHURCH)


def test_what_is_given_stands_above_the_models_own_testbed(words: Knowledge) -> None:
    own = EmojiTestbed()
    testbed = FileTestbed(words, detector=Always(), fallback=own)
    assert testbed.missing() == ()
    assert testbed.words(CHURCH) == words
    assert testbed.detector(CHURCH).name == "always"
    assert testbed.detector(CHURCH, "emoji_judge").name == "emoji_judge"
    assert testbed.prompts(CHURCH, 5) == own.prompts(CHURCH, 5)
    assert testbed.num_inference_steps == own.num_inference_steps
    assert testbed.guidance_scale == own.guidance_scale
    assert testbed.resolve("bomb").kind == "harmful"
    assert FileTestbed(kind="object", fallback=own).resolve("bomb").kind == "object"


def test_a_prompt_set_is_the_models_own_or_refused(words: Knowledge) -> None:
    model = load_model("emoji", device="cpu")
    own = EmojiTestbed()
    scene = scene_of(model, "church", own, n_prompts=6, prompt_set="validation")
    assert scene.prompts == own.prompts(CHURCH, 6, "validation")
    assert scene.prompts != scene_of(model, "church", own, n_prompts=6).prompts
    assert FileTestbed(words, fallback=own).prompt_sets == own.prompt_sets
    for testbed in (FileTestbed(words, PROMPTS, "always"), FileTestbed(prompts=PROMPTS, fallback=own)):
        assert scene_of(model, "church", testbed).prompts == PROMPTS
        with pytest.raises(InputError, match="no prompt set 'validation' here"):
            scene_of(model, "church", testbed, prompt_set="validation")


def test_words_make_a_concept_known_that_the_testbed_does_not_have(words: Knowledge) -> None:
    testbed = FileTestbed(words, fallback=EmojiTestbed())
    assert testbed.resolve("halloween") == Concept(name="halloween")
    assert testbed.questions(Concept(name="halloween"), 4) is None
    with pytest.raises(InputError, match="Unknown concept"):
        FileTestbed(fallback=EmojiTestbed()).resolve("halloween")


def test_the_testbed_of_a_model_is_recorded_and_not_guessed(model: DiffusionModel, words: Knowledge) -> None:
    assert isinstance(find_testbed(model), FileTestbed)
    assert find_testbed(model).missing() == ("prompts", "words", "detector")
    original = model.metered()
    original.testbed = "emoji"
    assert isinstance(find_testbed(original), EmojiTestbed)
    assert isinstance(find_testbed(model, original), EmojiTestbed), "the base's, for a plain folder"
    assert isinstance(find_testbed(original, words=words), FileTestbed)
    assert original.metered().testbed == "emoji", "copies keep it"


def test_a_scene_of_files(model: DiffusionModel, words: Knowledge, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("chapel\n\ndog, tree\n")
    scene, testbed = prepare(Loaded(model), "church", words=file, prompts=PROMPTS, detector="always")
    assert scene.concept == CHURCH
    assert scene.words.unrelated == ("dog", "tree")
    assert testbed.kind_of("church") is None
    with pytest.raises(InputError, match="give --prompts and --detector"):
        prepare(Loaded(model), "church", words=words)
    with pytest.raises(InputError, match="--concept"):
        prepare(Loaded(model))
    with pytest.raises(InputError, match="Unknown protocol"):
        scene_of(model, "church", testbed, protocol="none")


def test_words_come_from_the_erasure_where_the_model_has_none(
    model: DiffusionModel, words: Knowledge
) -> None:
    style = Concept(name="church", kind="style")
    loaded = load_target(UCE.preset(None, "style").erase(model, [Target(style, words)]), model)
    scene, _ = prepare(loaded, prompts=PROMPTS, detector="always")
    assert scene.words == words
    assert scene.concept == style, "the kind comes from the erasure too"
    message = "those of WordNet 3.0 are used: 'dog' is taken for: a member of the genus Canis"
    with pytest.warns(InputWarning, match=message):
        scene, _ = prepare(loaded, "dog", prompts=PROMPTS, detector="always")
    assert "domestic dog" in scene.words.related
    with pytest.raises(InputError, match="brings no detector for this concept: give --detector"):
        prepare(loaded, "dog", prompts=PROMPTS)


def test_prompts_that_are_cut_are_told_once(model: DiffusionModel, words: Knowledge) -> None:
    fits = model.text.main.room
    testbed = FileTestbed(words, [Prompt("dog " * fits, 0), Prompt("dog " * (fits + 1), 1)], "always")
    with pytest.warns(InputWarning, match=r"^1 of 2 prompts are longer than the text encoder reads"):
        scene_of(model, "church", testbed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scene_of(model, "church", FileTestbed(words, PROMPTS, "always"))
