"""JSON merge patch and JSON patch: results and refusals."""

from typing import Any

import pytest

from headrace_apiserver.patching.patch import OPERATIONS_MAX, merged, patched
from headrace_apiserver.statuses import StatusError

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""The examples of RFC 7396, appendix A."""

DOCUMENT: dict[str, Any] = {"a": {"b": 1, "list": [1, 2, 3]}, "c": "x", "m~n": {"p/q": True}}


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_a_merge_patch_does_what_the_rfc_shows(target: Any, patch: Any, result: Any) -> None:
    """All examples of the appendix."""
    assert result == merged(target, patch)


def test_a_merge_patch_is_no_deeper_than_an_object() -> None:
    """Depth is bounded, also if the parser accepted more."""
    patch: dict[str, Any] = {}
    for _ in range(200):
        patch = {"a": patch}
    with pytest.raises(StatusError, match="deeper"):
        merged({}, patch)


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ({"op": "add", "path": "/a/new", "value": 5}, {"a": {"b": 1, "list": [1, 2, 3], "new": 5}}),
        ({"op": "add", "path": "/a/b", "value": 5}, {"a": {"b": 5, "list": [1, 2, 3]}}),
        ({"op": "add", "path": "/a/b", "value": None}, {"a": {"b": None, "list": [1, 2, 3]}}),
        ({"op": "add", "path": "/a/list/1", "value": 5}, {"a": {"b": 1, "list": [1, 5, 2, 3]}}),
        ({"op": "add", "path": "/a/list/3", "value": 5}, {"a": {"b": 1, "list": [1, 2, 3, 5]}}),
        ({"op": "add", "path": "/a/list/-", "value": [5]}, {"a": {"b": 1, "list": [1, 2, 3, [5]]}}),
        ({"op": "remove", "path": "/a/b"}, {"a": {"list": [1, 2, 3]}}),
        ({"op": "remove", "path": "/a/list/0"}, {"a": {"b": 1, "list": [2, 3]}}),
        ({"op": "replace", "path": "/a/list/1", "value": {}}, {"a": {"b": 1, "list": [1, {}, 3]}}),
        (
            {"op": "replace", "path": "/a/new", "value": 5},
            {"a": {"b": 1, "list": [1, 2, 3], "new": 5}},
        ),
        ({"op": "replace", "path": "/m~0n/p~1q", "value": False}, {"m~n": {"p/q": False}}),
        ({"op": "move", "from": "/a/b", "path": "/a/list/0"}, {"a": {"list": [1, 1, 2, 3]}}),
        ({"op": "move", "from": "/a/b", "path": "/a/b"}, {}),
        ({"op": "copy", "from": "/a/list/2", "path": "/a/b"}, {"a": {"b": 3, "list": [1, 2, 3]}}),
        ({"op": "test", "path": "/a/b", "value": 1}, {}),
        ({"op": "test", "path": "/a/b", "value": 1.0}, {}),
        ({"op": "test", "path": "/a/list", "value": [1, 2, 3]}, {}),
        ({"op": "test", "path": "/a/none", "value": None}, {}),
    ],
)
def test_an_operation_changes_its_target_only(
    operation: dict[str, Any], change: dict[str, Any]
) -> None:
    """Each operation of RFC 6902; a replace of a missing field adds it, as in a cluster."""
    before = str(DOCUMENT)
    assert {**DOCUMENT, **change} == patched(DOCUMENT, [operation])
    assert before == str(DOCUMENT)


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({}, 422),
        ("add", 422),
        ({"op": "grow", "path": "/a"}, 422),
        ({"op": ["add"], "path": "/a"}, 422),
        ({"op": "add", "path": "/a/b"}, 422),
        ({"op": "add", "value": 1}, 422),
        ({"op": "add", "path": "a", "value": 1}, 422),
        ({"op": "add", "path": "/none/b", "value": 1}, 422),
        ({"op": "add", "path": "/c/b", "value": 1}, 422),
        ({"op": "add", "path": "/a/list/4", "value": 1}, 422),
        ({"op": "add", "path": "/a/list/01", "value": 1}, 422),
        ({"op": "add", "path": "/a/list/-1", "value": 1}, 422),
        ({"op": "add", "path": "/a/list/x", "value": 1}, 422),
        ({"op": "add", "path": "/a/list/-/b", "value": 1}, 422),
        ({"op": "add", "path": "", "value": []}, 422),
        ({"op": "add", "path": "/a" * 100, "value": 1}, 422),
        ({"op": "remove", "path": "/none"}, 422),
        ({"op": "remove", "path": "/a/list/3"}, 422),
        ({"op": "remove", "path": "/a/list/-"}, 422),
        ({"op": "remove", "path": ""}, 422),
        ({"op": "replace", "path": "/none/b", "value": 1}, 422),
        ({"op": "replace", "path": "/a/list/3", "value": 1}, 422),
        ({"op": "replace", "path": "/a/list/-", "value": 1}, 422),
        ({"op": "move", "from": "/none", "path": "/c"}, 422),
        ({"op": "move", "path": "/c"}, 422),
        ({"op": "move", "from": "/a", "path": "/a/b"}, 422),
        ({"op": "copy", "from": "/none", "path": "/c"}, 422),
        ({"op": "test", "path": "/a/b", "value": 2}, 422),
        ({"op": "test", "path": "/a/b", "value": True}, 422),
        ({"op": "test", "path": "/a/b", "value": "1"}, 422),
        ({"op": "test", "path": "/none", "value": 1}, 422),
        ({"op": "test", "path": "/a/list", "value": [1, 2]}, 422),
        ({"op": "test", "path": "/a", "value": {"b": 1}}, 422),
    ],
)
def test_an_operation_that_does_not_apply_is_refused(operation: Any, code: int) -> None:
    """With a message like that of the Kubernetes API."""
    with pytest.raises(
        StatusError, match=r"the server rejected our request due to an error in our request: \w"
    ) as caught:
        patched(DOCUMENT, [operation])
    assert code == caught.value.code


def test_operations_follow_each_other() -> None:
    """Each operation sees the result of those before it."""
    operations = [
        {"op": "add", "path": "/n", "value": {}},
        {"op": "copy", "from": "/a", "path": "/n/a"},
        {"op": "add", "path": "/n/a/list/-", "value": 4},
        {"op": "test", "path": "/a/list", "value": [1, 2, 3]},
        {"op": "test", "path": "/n/a/list", "value": [1, 2, 3, 4]},
        {"op": "remove", "path": "/a"},
    ]
    assert {"c": "x", "m~n": {"p/q": True}, "n": {"a": {"b": 1, "list": [1, 2, 3, 4]}}} == patched(
        DOCUMENT, operations
    )


def test_a_json_patch_is_a_list() -> None:
    """Anything else is refused."""
    with pytest.raises(StatusError) as caught:
        patched(DOCUMENT, {"op": "add"})
    assert 400 == caught.value.code


def test_the_number_of_operations_is_bounded() -> None:
    """With the text of the Kubernetes API."""
    operations = [{"op": "test", "path": "/c", "value": "x"}] * (OPERATIONS_MAX + 1)
    with pytest.raises(StatusError) as caught:
        patched(DOCUMENT, operations)
    message = (
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got"
        " 10001"
    )
    assert (413, message) == (caught.value.code, str(caught.value))


def test_a_small_patch_cannot_make_a_large_object() -> None:
    """Copies of copies double an object each time; the growth is counted in advance."""
    operations = [{"op": "copy", "from": "/a", "path": f"/a/x{number}"} for number in range(40)]
    with pytest.raises(StatusError) as caught:
        patched(DOCUMENT, operations)
    assert 413 == caught.value.code


def test_a_patch_cannot_make_a_deep_object() -> None:
    """The depth of a value that a patch adds counts from its path."""
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(StatusError, match="deeper"):
        patched(deep, [{"op": "copy", "from": "", "path": "/a" * 40}])


def test_many_operations_on_a_large_object_are_cheap() -> None:
    """An operation costs what it touches: thousands of them on thousands of values take a short
    time.
    """
    large = {"m": {str(number): number for number in range(15_000)}}
    result = patched(
        large,
        [{"op": "replace", "path": "/m/7", "value": number} for number in range(OPERATIONS_MAX)],
    )
    assert (OPERATIONS_MAX - 1, 7) == (result["m"]["7"], large["m"]["7"])
