"""Manifest files: several documents, YAML and JSON; hostile or careless files are refused with file
and line.
"""

from pathlib import Path

import pytest

from headrace.adapters.manifests import InvalidManifest, read_manifests, read_paths
from headrace.codec.objects import InvalidObject, ObjectTooLarge, read_object, write_object


def test_documents_are_read_with_their_lines() -> None:
    """Empty documents are skipped, a List is expanded, times stay text."""
    text = (
        b"---\na: 1\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {b: 2}\n- {c:"
        b" 2001-01-01T00:00:00Z}\n"
    )
    found = read_manifests(text, "f.yaml")
    assert [{"a": 1}, {"b": 2}, {"c": "2001-01-01T00:00:00Z"}] == [each.document for each in found]
    assert ["f.yaml:1", "f.yaml:5", "f.yaml:5"] == [each.place for each in found]


def test_json_is_yaml_too() -> None:
    """A JSON manifest reads the same."""
    assert {"a": [1, True, None, "x"]} == read_manifests(b'{"a": [1, true, null, "x"]}', "f.json")[
        0
    ].document


LAUGHS = b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "f.yaml:1: anchors and aliases are not taken"),
        (b"a: 1\nb: 2\na: 3\n", 'f.yaml:3: duplicate key "a"'),
        (b"x:\n  a: 1\n  a: 2\n", 'f.yaml:3: duplicate key "a"'),
        (b"- 1\n", "f.yaml:1: a manifest is a mapping with apiVersion, kind and metadata"),
        (b"a: [1\nb: 2\n", "f.yaml:2: "),
        (b"a: " + b"[" * 5000, "f.yaml:1: nested deeper than 64 levels"),
        (b"a: [" + b"1," * 30_000 + b"1]", "more than 20000 nodes"),
        (
            b"a: !!python/object:os.system x\n",
            "f.yaml:1: the tag tag:yaml.org,2002:python/object:os.system is not taken",
        ),
        (b"a: .nan\n", 'f.yaml:1: ".nan" is no number that JSON can write'),
        (b"? [a, b]\n: 1\n", "f.yaml:1: a key must be text"),
        (b"a: \xff\xfe\n", "f.yaml: not UTF-8 at byte 3"),
        (b"a: !!binary aGVsbG8=\n", "f.yaml:1: the tag tag:yaml.org,2002:binary is not taken"),
        (b"? {a: b}\n: 1\n", "f.yaml:1: a key must be text"),
        (b"a: !!bool zz\n", 'f.yaml:1: "zz" is neither true nor false'),
        (b"a:\n- !!float ''\n", 'f.yaml:2: "" is no number that JSON can write'),
        (b"a: !!int zz\n", 'f.yaml:1: "zz" is no integer of 64 bits'),
        (b"a: !!bool [1]\n", "f.yaml:1: expected a single value"),
        (b"a: !!timestamp zz\n", "the tag tag:yaml.org,2002:timestamp is not taken"),
        (b"a: !!omap [b: c]\n", "the tag tag:yaml.org,2002:omap is not taken"),
        (b"a: " + b"9" * 400 + b"\n", "is no integer of 64 bits"),
        (b"a: 0x" + b"f" * 100_000 + b"\n", "is no integer of 64 bits"),
        (b"a: 1.0e+400\n", '"1.0e+400" is no number that JSON can write'),
        (b'a: "\\ud800"\n', "f.yaml:1: half of a character (a lone surrogate) in a text"),
        (b"a: \x07\n", "f.yaml: "),
        (b"apiVersion: v1\nkind: List\nitems: 1\n", "f.yaml:1: the items of a List are a list"),
        (b"#" * (256 * 1024 + 1), "a manifest file may have 262144"),
    ],
)
def test_hostile_files_are_refused(text: bytes, message: str) -> None:
    """With the reason, and the line if there is one; quickly."""
    with pytest.raises(InvalidManifest) as raised:
        read_manifests(text, "f.yaml")
    assert message in str(raised.value)


def test_keys_that_yaml_takes_for_something_else_stay_text() -> None:
    """`yes:` and `1:` stay the text in the file."""
    assert {"yes": 1, "1": 2} == read_manifests(b"yes: 1\n1: 2\n", "f")[0].document


def test_directories_and_files_are_read_in_order(tmp_path: Path) -> None:
    """YAML and JSON files of a directory, by name; a missing file is named."""
    (tmp_path / "b.yaml").write_text("b: 1")
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "c.txt").write_text("c: 1")
    assert [{"a": 1}, {"b": 1}] == [each.document for each in read_paths([tmp_path])]
    with pytest.raises(InvalidManifest, match="nowhere"):
        read_paths([tmp_path / "nowhere.yaml"])


@pytest.mark.parametrize(
    "text",
    [
        b"[1]",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"a":[' + b"1," * 30_000 + b"1]}",
        b"{",
        b"",
    ],
)
def test_hostile_objects_are_refused(text: bytes) -> None:
    """Each is InvalidObject, none is a crash."""
    with pytest.raises(InvalidObject):
        read_object(text)


def test_objects_are_bounded_and_written_canonically() -> None:
    """Equal objects are equal bytes; past the limit it is too large."""
    assert b'{"a":{"b":1},"c":"\xc3\xa4"}' == write_object({"c": "ä", "a": {"b": 1}})
    assert {"a": "[{\\"} == read_object(b'{"a":"[{\\\\"}')
    with pytest.raises(ObjectTooLarge):
        read_object(b'{"a":"' + b"x" * 300_000 + b'"}')


def test_numbers_of_base_60_are_text() -> None:
    """As in Kubernetes: a time or a port mapping is not a number, however long it is; other numbers
    are those of YAML 1.1.
    """
    text = (
        b"a: 1:30\nb: 190:20:30.15\nc: 1"
        + b":00" * 5_000
        + b"\nd: 0x1F\ne: 010\nf: 1_000\ng: -1.5\nh: 0b11\ni: 0\nj: 1.\nk: 1e3\nl: =\n"
    )
    found = read_manifests(text, "f.yaml")[0].document
    assert ("1:30", "190:20:30.15") == (found["a"], found["b"])
    assert 15_001 == len(found["c"])
    assert [31, 8, 1000, -1.5, 3, 0, 1.0, "1e3", "="] == [found[name] for name in "defghijkl"]
