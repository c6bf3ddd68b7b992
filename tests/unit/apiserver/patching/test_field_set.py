"""FieldsV1: reading, writing and showing field paths."""

from typing import Any

import pytest

from headrace_apiserver.patching.field_set import (
    InvalidFields,
    below,
    ordered,
    read_fields,
    shown,
    write_fields,
)

FIELDS = {
    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
    "f:spec": {
        "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}},
        "f:set": {'v:"a"': {}, "v:1": {}},
        "f:list": {"i:3": {}},
    },
}
PATHS = {
    ("f:metadata", "f:labels"),
    ("f:metadata", "f:labels", "f:app"),
    ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}'),
    ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name"),
    ("f:spec", "f:set", 'v:"a"'),
    ("f:spec", "f:set", "v:1"),
    ("f:spec", "f:list", "i:3"),
}


def test_fields_are_read() -> None:
    """A leaf and a dot are members; an element that only leads to others is not."""
    assert PATHS == read_fields(FIELDS)


def test_fields_are_written() -> None:
    """Writing is the inverse of reading."""
    assert FIELDS == write_fields(PATHS)


def test_elements_are_read_in_one_spelling() -> None:
    """Other writers may use other white space, key order and escapes."""
    assert read_fields({'k:{ "b" : "\\u0041", "a": 1 }': {}}) == read_fields(
        {'k:{"a":1,"b":"A"}': {}}
    )


@pytest.mark.parametrize(
    "fields",
    [
        "text",
        {"spec": {}},
        {"f:a": 1},
        {"x:a": {}},
        {"k:{": {}},
        {"k:[]": {}},
        {"k:{}": {}},
        {"v:": {}},
        {"i:x": {}},
        {"i:true": {}},
    ],
)
def test_invalid_field_sets_are_refused(fields: Any) -> None:
    """Invalid input is not guessed at."""
    with pytest.raises(InvalidFields):
        read_fields(fields)


def test_nesting_is_bounded() -> None:
    """No deeper than an object may be."""
    fields: dict[str, Any] = {}
    for _ in range(200):
        fields = {"f:a": fields}
    with pytest.raises(InvalidFields):
        read_fields(fields)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name"),
            '.spec.ports[port=80,protocol="TCP"].name',
        ),
        (("f:spec", "f:set", 'v:"a"'), '.spec.set[="a"]'),
        (("f:spec", "i:3"), ".spec[3]"),
        ((), ""),
    ],
)
def test_a_path_is_shown_to_people(path: tuple[str, ...], text: str) -> None:
    """As Kubernetes prints it in conflicts."""
    assert text == shown(path)


def test_paths_are_ordered_with_fields_before_what_is_below_others() -> None:
    """The order of conflicts in a cluster."""
    paths = [("f:b",), ("f:a", "f:x"), ("f:a",), ("f:c", 'k:{"n":1}'), ("f:c", "f:z")]
    assert [("f:a",), ("f:b",), ("f:a", "f:x"), ("f:c", "f:z"), ("f:c", 'k:{"n":1}')] == ordered(
        paths
    )


def test_the_paths_below_a_field_include_it() -> None:
    """A subtree with its root."""
    assert {("f:metadata", "f:labels"), ("f:metadata", "f:labels", "f:app")} == set(
        below(("f:metadata", "f:labels"), PATHS)
    )
