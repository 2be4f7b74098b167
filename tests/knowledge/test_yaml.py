"""Word files in YAML: written, read again, and refused with the place of the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgrace._util.errors import InputError
from sgrace.knowledge import Candidate, ConceptWords, Knowledge, read_words, write_words

CHURCH = ConceptWords(
    concept="church",
    kind="object",
    source="a test",
    related=("chapel", "église"),
    near=("mosque", "temple"),
    cooccurring=("wedding",),
    unrelated=("dog", "no", "9/11 memorial"),
    replacements=(Candidate(word="mosque", reason="another kind of 'place of worship': #1"),),
    reasons={"chapel": "a kind of it", "dog": "a common thing"},
)


def yaml_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "words.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "church.yaml"
    write_words(path, CHURCH)
    assert read_words(path) == CHURCH
    assert "église" in path.read_text(encoding="utf-8"), "people read it"
    found = Knowledge.from_file(path, "Church")
    assert found.unrelated == ("mosque", "temple", "wedding", "dog", "no", "9/11 memorial")
    assert found.replacements == ("mosque",)
    with pytest.raises(InputError, match="exists already"):
        write_words(path, CHURCH)
    with pytest.raises(InputError, match=r"church\.yaml has the words of 'church', not of 'dog'"):
        Knowledge.from_file(path, "dog")


def test_the_published_layout_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "church.txt"
    write_words(path, CHURCH)
    found = read_words(path)
    assert (found.related, found.unrelated) == (CHURCH.related, CHURCH.protected)


def test_a_file_that_people_wrote(tmp_path: Path) -> None:
    found = read_words(
        yaml_file(
            tmp_path,
            "\ufeffrelated: [Chapel, Bell_Tower]  # by hand\nunrelated:\n- dog\n- Oak  Tree\n"
            "replacements: [mosque, {word: Temple, reason: near}]\ncontexts: ['a photo of {}']\n",
        )
    )
    assert found.related == ("chapel", "bell tower")
    assert found.unrelated == ("dog", "oak tree")
    assert [one.word for one in found.replacements] == ["mosque", "temple"]
    assert Knowledge.of(found).contexts == ("a photo of {}",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("related: [chapel]\nunrelated: [dog, no]\n", r"unrelated\.1: .* put it in quotes if it is a word"),
        ("related: [chapel]\nunrelated: [2024]\n", r"unrelated\.0"),
        ("related: chapel\nunrelated: [dog]\n", "related: Input should be a valid tuple"),
        ("related: [chapel]\nunrelatd: [dog]\n", "no use for the key 'unrelatd'; did you mean 'unrelated'"),
        ("related: [a]\nunrelated: [dog]\nrelated: [b]\n", "has 'related' twice"),
        ("related: [chapel]\n", "no words to protect"),
        ("unrelated: [dog]\n", "related: Field required"),
        ("- chapel\n- dog\n", "must hold the keys"),
        ("related: [chapel\nunrelated: [dog]\n", "is not YAML: line"),
        ("related: [!!python/object/apply:os.system ['true']]\nunrelated: [dog]\n", "is not YAML"),
        ("related: ['<b>chapel</b>']\nunrelated: [dog]\n", "is no word"),
        ("related: ['../../etc/passwd']\nunrelated: [dog]\n", "is no word"),
        ("related: ['chap\\e[31mel']\nunrelated: [dog]\n", "is no word"),
        ("related: [chapel]\nunrelated: [dog]\ncontexts: [no place]\n", r"one \{\} for the word"),
        ("[" * 5000, "is not YAML"),
        (
            "a: &a [x, x]\nb: &b [*a, *a]\nrelated: [*b]\nunrelated: [dog]\n",
            "no use for the key 'a'",
        ),
    ],
)
def test_what_is_no_word_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read_words(yaml_file(tmp_path, content))
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


def test_reasons_follow_their_words_and_are_one_line(tmp_path: Path) -> None:
    found = read_words(
        yaml_file(
            tmp_path,
            "related: [chapel]\nunrelated: [dog, chapels]\n"
            'reasons: {Dog: "a\\x1b[2J\\nb", chapels: c, x: d}\n',
        )
    )
    clean, _ = found.guarded("church")
    assert clean.reasons == {"dog": "a[2Jb"}
