"""The JSONPath of printer columns."""

from typing import Any

import pytest

from headrace_apiserver.tables.json_paths import PATH_MAX, JsonPath

DOCUMENT: dict[str, Any] = {
    "spec": {
        "broker": "b",
        "list": [{"n": 1, "on": True}, {"n": 2}],
        "null": None,
        "a.b": {"c/d": "deep"},
    },
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Other", "status": "False", "reason": "R"},
        ]
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.broker", ["b"]),
        ("spec.broker", ["b"]),
        ("{.spec.broker}", ["b"]),
        ("$.spec.broker", ["b"]),
        (r".spec.a\.b.c/d", ["deep"]),
        (".spec['a.b']['c/d']", ["deep"]),
        ('.spec["broker"]', ["b"]),
        (".spec.list[0].n", [1]),
        (".spec.list[-1].n", [2]),
        (".spec.list[2].n", []),
        (".spec.list[*].n", [1, 2]),
        (".spec.list.*", [{"n": 1, "on": True}, {"n": 2}]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type != "Ready")].status', ["False"]),
        (".status.conditions[?(@.reason)].type", ["Other"]),
        (".spec.list[?(@.n==2)].n", [2]),
        (".spec.list[?(@.on==true)].n", [1]),
        (".spec.null", []),
        (".spec.none.deeper", []),
        (".spec.broker.deeper", []),
        ("", [DOCUMENT]),
    ],
)
def test_a_path_finds_its_values(path: str, found: list[Any]) -> None:
    """In the order of the document; nothing if the path leads nowhere."""
    compiled = JsonPath(path)
    assert found == compiled.find(DOCUMENT)
    assert (found[0] if found else None) == compiled.first(DOCUMENT)


@pytest.mark.parametrize(
    "path",
    [
        ".spec[",
        ".spec.list[1:2]",
        ".spec.list[?(@.n>1)]",
        ".spec..broker]",
        ".a" * PATH_MAX,
        "[['x']]",
    ],
)
def test_an_unsupported_path_finds_nothing(path: str) -> None:
    """A table does not fail because of one column."""
    assert ([], None) == (JsonPath(path).find(DOCUMENT), JsonPath(path).first(DOCUMENT))
