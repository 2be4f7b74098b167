"""Word files as people write them, and the repair of word lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgrace._util.errors import InputError
from sgrace.concept import Concept
from sgrace.knowledge import Knowledge, Target

RELATED = ("church", "bell tower", "chapel")
UNRELATED = ("dog", "oak tree", "9/11 memorial")

LAYOUTS = {
    "published": "church, bell tower, chapel\n\ndog, oak tree, 9/11 memorial\n",
    "lines": "church\nbell tower\nchapel\n\ndog\noak tree\n9/11 memorial",
    "bom": "\ufeffchurch\nbell tower\nchapel\n\ndog\noak tree\n9/11 memorial\n",
    "windows": "church,bell tower,chapel\r\n\r\ndog,oak tree,9/11 memorial\r\n",
    "spaces in the blank line": "church\nbell tower\nchapel\n \t\u00a0\u200b\ndog\noak tree\n9/11 memorial\n",
    "several blank lines": "\n\nchurch\nbell tower\nchapel\n\n\n \n\ndog\noak tree\n9/11 memorial\n\n\n",
    "a line of dashes": "church\nbell tower\nchapel\n---\ndog\noak tree\n9/11 memorial\n",
    "numbers": "1. church\n2. bell tower\n3) chapel\n\n(1) dog\n2.oak tree\n10. 9/11 memorial\n",
    "dashes": "- church\n\u2013 bell tower\n* chapel\n\n• dog\n-oak tree\n+ 9/11 memorial\n",
    "quotes": '"church", \u201cbell tower\u201d, \u2018chapel\u2019.\n\n\'dog\'; "oak tree"; 9/11 memorial\n',
    "case": "Church\nBell_Tower\nCHAPEL\n\nDog\n oak\u00a0 tree \n9/11 Memorial\n",
    "headings": "related:\nchurch\nbell tower\nchapel\nunrelated:\ndog\noak tree\n9/11 memorial\n",
    "headings and blanks": (
        "Related:\n\nchurch\nbell tower\n\nchapel\n\nUnrelated:\n\ndog, oak tree\n\n9/11 memorial\n"
    ),
    "headings of Markdown": (
        "## Related\n- church\n- bell tower\n- chapel\n\n## Unrelated\n- dog\n- oak tree\n- 9/11 memorial"
    ),
    "headings in a line": "related: church, bell tower, chapel\nunrelated: dog, oak tree, 9/11 memorial\n",
    "headings in bold": (
        "**Related:** church, bell tower, chapel\n\n**Unrelated words:** dog, oak tree, 9/11 memorial\n"
    ),
    "the other order": "[unrelated]\ndog\noak tree\n9/11 memorial\n[related]\nchurch\nbell tower\nchapel\n",
    "comments": (
        "# by hand\n\nchurch\n# a part\nbell tower\nchapel\n\n# stays\ndog\noak tree\n9/11 memorial\n"
    ),
}


def word_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_word_files_as_people_write_them(tmp_path: Path, layout: str) -> None:
    found = Knowledge.from_file(word_file(tmp_path, LAYOUTS[layout]))
    assert (found.related, found.unrelated) == (RELATED, UNRELATED)
    assert found.replacements == UNRELATED
    assert found.source == "file words.txt"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("church\n\ndog\n\ntree\n", "has 3 blocks of words, not 2; it must hold related words, a blank line"),
        ("church\ndog\n", "has 1 blocks"),
        ("\n\n", "has 0 blocks"),
        ("related:\nchurch\n", "no words under `unrelated:`"),
        ("related:\nunrelated:\ndog\n", "no words under `related:`"),
        (
            "spire\nrelated:\nchurch\nunrelated:\ndog\n",
            r"Line 1 of words\.txt stands above the first heading",
        ),
        ("erase:\nchurch\n\nkeep:\ndog\n", "Line 1 of .* unknown heading, 'erase:'"),
        ("church\n\n2024\ndog\n", "Line 3 of .* holds '2024', which is no word"),
        ("church, 0.93\n\ndog, 0.1\n", "Line 1 of .* holds '0.93', which is no word"),
        ("1\tchurch\n2\tchapel\n\n1\tdog\n", "Line 1 of .* holds '1', which is no word"),
        ("chu\x1b[31mrch\n\ndog\n", "Line 1 of .* which is no word"),
        ("church\n\n" + "dog " * 40, "Line 3 of .* which is no word"),
        ('{"related": ["church"],\n\n"unrelated": ["dog"]}', "which is no word"),
        ("<b>church</b>\n\ndog", "Line 1 of .* which is no word"),
        (b"church\x00\n\ndog", "is not text"),
        (b"chu\xffrch\n\ndog", "not UTF-8"),
        (b"", "is empty"),
        (b"x" * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_what_is_no_word_file_is_refused_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Knowledge.from_file(word_file(tmp_path, content))


@pytest.mark.parametrize("path", ["/dev/zero", "/tmp", "no such file"])  # noqa: S108  (a folder that is there)
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        Knowledge.from_file(Path(path))


OWN = ["church", "Church", "bell_tower", "Bell tower", "\ufeffchapel"]


@settings(deadline=None)
@given(
    mark=st.sampled_from(["", "- ", "1. ", "\ufeff"]),
    own=st.lists(st.sampled_from(OWN), min_size=1),
    others=st.lists(st.sampled_from(["dog", "oak tree"]), min_size=1),
    data=st.data(),
)
def test_a_concepts_own_word_is_never_protected(
    mark: str,
    own: list[str],
    others: list[str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    protected = data.draw(st.permutations([*own, *others]))
    lists = [["church", "bell tower", "chapel"], protected]
    content = "\n\n".join("\n".join(mark + word for word in words) for words in lists)
    path = word_file(tmp_path_factory.mktemp("words"), content)
    found = Knowledge.from_file(path).resolved("church")
    assert set(found.unrelated) == set(others)
    assert set(found.replacements) == set(others)


def test_own_words_are_found_in_any_spelling() -> None:
    words = Knowledge(
        source="test",
        related=("Garbage_Truck",),
        unrelated=("garbage truck", "DUSTCART", "dog"),
        replacements=("Dustcart", "boat"),
    )
    found = words.resolved("dustcart")
    assert found.related == ("dustcart", "Garbage_Truck")
    assert (found.unrelated, found.replacements) == (("dog",), ("boat",))
    assert found.resolved("dustcart") == found


def test_schema_1_named_the_replacements_surrogates() -> None:
    new = {"source": "test", "related": ["church"], "unrelated": ["dog"], "replacements": ["house", "boat"]}
    old = {("surrogates" if key == "replacements" else key): value for key, value in new.items()}
    read = Knowledge.model_validate_json(json.dumps(old))
    assert read == Knowledge.model_validate(new)
    assert read.replacements == ("house", "boat")
    assert "surrogates" not in read.model_dump()
    with pytest.raises(ValueError, match="old name of `replacements`"):
        Knowledge.model_validate({**new, "surrogates": []})


@pytest.mark.parametrize("pattern", ["a photo", "{} and {}", "a photo of {word}"])
def test_a_pattern_has_one_place_for_the_word(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"a prompt pattern has one \{\}"):
        Knowledge(source="test", related=("church",), unrelated=("dog",), contexts=(pattern,))


def test_every_field_is_described() -> None:
    for model in (Knowledge, Concept):
        assert all(field.description for field in model.model_fields.values())


def test_a_target_has_words_that_protect_the_rest() -> None:
    words = Knowledge(source="test", related=(), unrelated=("dog",))
    target = Target(Concept(name="church"), words)
    assert (target.concept.name, target.words) == ("church", words)
    for unrelated in ((), ("church",), ("CHURCH",)):
        with pytest.raises(InputError, match="No unrelated words are left for 'church'"):
            Target(target.concept, words.model_copy(update={"unrelated": unrelated}))
    with pytest.raises(InputError, match="no prompt patterns"):
        Target(target.concept, words.model_copy(update={"contexts": ()}))
