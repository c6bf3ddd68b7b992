"""Tables as kubectl prints them: cells, columns and rows (cells as in kube-apiserver 1.34)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.resources.resource import ResourceKind
from headrace_apiserver.statuses import StatusError
from headrace_apiserver.tables.table import Included, Tabulator, partial, read_included

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
THING = ResourceKind(
    group="test.dev", version="v1", kind="Thing", plural="things", singular="thing"
)


@dataclass(frozen=True)
class Column:
    """A printer column of a CRD."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


COLUMNS = (
    Column("Broker", "string", ".spec.broker"),
    Column("Size", "integer", ".spec.size", description="How big"),
    Column("Ratio", "number", ".spec.ratio"),
    Column("On", "boolean", ".spec.on"),
    Column("Anno", "string", r".metadata.annotations.test\.dev/x\.y", priority=1),
    Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    Column("When", "date", ".spec.when"),
    Column("First", "string", ".spec.set[0]"),
    Column("All", "string", ".spec.set[*]"),
    Column("Set", "string", ".spec.set"),
    Column("Obj", "string", ".spec.free"),
    Column("Age", "date", ".metadata.creationTimestamp"),
    Column("Odd", "colour", ".spec.broker"),
)
FULL = {
    "apiVersion": "test.dev/v1",
    "kind": "Thing",
    "metadata": {
        "name": "a",
        "resourceVersion": "7",
        "annotations": {"test.dev/x.y": "anno"},
        "creationTimestamp": "2026-11-24T11:59:58Z",
    },
    "spec": {
        "broker": "b",
        "size": 3,
        "ratio": 1.5,
        "on": True,
        "when": "2020-01-01T00:00:00Z",
        "set": ["x", "y"],
        "free": {"b": [1, "2"], "a": None},
    },
    "status": {
        "conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    },
}


def cells(document: dict[str, Any], *columns: Column) -> list[Any]:
    """The cells of one row, without the name."""
    row = Tabulator(THING, columns).row(
        {"metadata": {"name": "a"}, **document}, now=NOW, included=Included.NONE
    )
    return list(row["cells"][1:])


def test_cells_follow_the_columns() -> None:
    """Every column type shows its value as in a cluster; a column of unknown type is empty."""
    expected = [
        "b",
        3,
        1.5,
        True,
        "anno",
        "True",
        "6y329d",
        "x",
        "x",
        '["x","y"]',
        '{"a":null,"b":[1,"2"]}',
        "2s",
        None,
    ]
    assert expected == cells(FULL, *COLUMNS)


def test_an_absent_value_is_an_empty_cell() -> None:
    """Absent values, and values of another type than the column's, are null; an invalid time is
    marked.
    """
    document = {"spec": {"size": "text", "ratio": True, "on": "x", "when": "nonsense", "set": []}}
    assert [
        None,
        None,
        None,
        None,
        None,
        None,
        "<invalid>",
        None,
        None,
        "[]",
        None,
        None,
        None,
    ] == cells(document, *COLUMNS)


def test_the_first_column_is_the_name() -> None:
    """It is followed by the columns of the definition, described by their path if they have no
    description.
    """
    definitions = Tabulator(THING, COLUMNS[:2]).definitions
    assert [("Name", "name"), ("Broker", ""), ("Size", "")] == [
        (each["name"], each["format"]) for each in definitions
    ]
    assert ["Custom resource definition column (in JSONPath format): .spec.broker", "How big"] == [
        each["description"] for each in definitions[1:]
    ]


def test_a_kind_without_columns_shows_its_age() -> None:
    """As in Kubernetes, for a CRD without printer columns."""
    tabulator = Tabulator(THING)
    row = tabulator.row(FULL, now=NOW, included=Included.NONE)
    assert (["Name", "Age"], ["a", "2s"]) == (
        [each["name"] for each in tabulator.definitions],
        row["cells"],
    )


@pytest.mark.parametrize(
    ("included", "expected"),
    [
        (Included.NONE, None),
        (
            Included.METADATA,
            {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": FULL["metadata"],
            },
        ),
        (Included.OBJECT, FULL),
    ],
)
def test_a_row_contains_what_the_client_asked_for(included: Included, expected: Any) -> None:
    """Nothing, the metadata, or the object."""
    assert expected == Tabulator(THING).row(FULL, now=NOW, included=included)["object"]


def test_a_table_carries_the_version_of_its_list() -> None:
    """A client watches from there."""
    table = Tabulator(THING, COLUMNS).table(
        [FULL], now=NOW, included=Included.NONE, metadata={"resourceVersion": "9"}
    )
    assert ("Table", "meta.k8s.io/v1", {"resourceVersion": "9"}, 1) == (
        table["kind"],
        table["apiVersion"],
        table["metadata"],
        len(table["rows"]),
    )


def test_a_table_of_one_carries_the_version_of_the_object() -> None:
    """Without columns if they were sent before."""
    table = Tabulator(THING, COLUMNS).of_one(FULL, now=NOW, included=Included.NONE, headed=False)
    assert ({"resourceVersion": "7"}, None) == (table["metadata"], table["columnDefinitions"])


def test_objects_can_be_reduced_to_their_metadata() -> None:
    """Garbage collectors and informers need no more."""
    assert {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": FULL["metadata"],
    } == partial(FULL)


def test_the_contents_of_a_row_are_read_from_the_request() -> None:
    """The metadata by default; an unknown value is refused."""
    assert [Included.METADATA, Included.METADATA, Included.NONE] == [
        read_included(text) for text in (None, "", "None")
    ]
    with pytest.raises(StatusError, match="must be 'Metadata', 'Object', 'None', or empty"):
        read_included("x")


EVENT: dict[str, Any] = {
    "involvedObject": {"kind": "Thing", "name": "a", "fieldPath": "spec.x"},
    "reason": "R",
    "message": "hello\nworld ",
    "type": "Normal",
}
CORE = [
    ("", "configmaps", {"data": {"a": "1", "b": ""}, "binaryData": {"c": "eA=="}}, [3]),
    ("", "secrets", {"type": "Opaque", "data": {"p": "dw=="}}, ["Opaque", 1]),
    ("", "namespaces", {"status": {"phase": "Active"}}, ["Active"]),
    ("", "serviceaccounts", {}, [0]),
    (
        "",
        "services",
        {
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.2",
                "ports": [
                    {"port": 80, "nodePort": 30080, "protocol": "TCP"},
                    {"port": 53, "protocol": "UDP"},
                ],
                "selector": {"b": "1", "a": "2"},
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}, {"hostname": "h.example"}]}},
        },
        ["LoadBalancer", "10.96.0.2", "9.9.9.9,h.example", "80:30080/TCP,53/UDP", None, "a=2,b=1"],
    ),
    (
        "",
        "services",
        {"spec": {"type": "LoadBalancer"}},
        ["LoadBalancer", "<none>", "<pending>", "<none>", None, "<none>"],
    ),
    (
        "",
        "services",
        {"spec": {"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}},
        ["ExternalName", "<none>", "example.com", "80/TCP", None, "<none>"],
    ),
    (
        "",
        "services",
        {"spec": {"externalIPs": ["1.2.3.4"]}},
        ["ClusterIP", "<none>", "1.2.3.4", "<none>", None, "<none>"],
    ),
    ("coordination.k8s.io", "leases", {"spec": {"holderIdentity": "me"}}, ["me"]),
]


@pytest.mark.parametrize(("group", "plural", "document", "expected"), CORE)
def test_core_kinds_have_the_columns_of_kubernetes(
    group: str, plural: str, document: dict[str, Any], expected: list[Any]
) -> None:
    """Counts, ports and addresses, with the age where Kubernetes has it."""
    kind = ResourceKind(group=group, version="v1", kind="", plural=plural, singular="")
    whole = {"metadata": {"name": "n", "creationTimestamp": "2026-11-24T11:58:00Z"}, **document}
    row = Tabulator(kind).row(whole, now=NOW, included=Included.NONE)["cells"]
    ages = [position for position, each in enumerate(expected) if each is None] or [len(expected)]
    expected = [*expected[: ages[0]], "2m", *expected[ages[0] + 1 :]]
    assert ["n", *expected] == row


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {
                "firstTimestamp": "2026-11-24T10:00:00Z",
                "lastTimestamp": "2026-11-24T11:00:00Z",
                "count": 3,
                "source": {"component": "c", "host": "h"},
            },
            ["60m", "c, h", "120m", 3],
        ),
        (
            {
                "eventTime": "2026-11-24T10:30:00.000001Z",
                "reportingComponent": "rc",
                "reportingInstance": "ri",
            },
            ["89m", "rc, ri", "89m", 1],
        ),
        ({"source": {"component": "c"}}, ["<unknown>", "c", "<unknown>", 1]),
        (
            {
                "eventTime": "2026-11-24T10:30:00.000001Z",
                "reportingComponent": "rc",
                "series": {"count": 5, "lastObservedTime": "2026-11-24T11:30:00.000001Z"},
            },
            ["29m", "rc", "89m", 5],
        ),
    ],
)
def test_events_show_their_time_and_object(document: dict[str, Any], expected: list[Any]) -> None:
    """Old and new forms of events are shown in the same way."""
    kind = ResourceKind(group="", version="v1", kind="Event", plural="events", singular="event")
    row = Tabulator(kind).row(
        {"metadata": {"name": "e"}, **EVENT, **document}, now=NOW, included=Included.NONE
    )["cells"]
    last, source, first, count = expected
    assert [
        last,
        "Normal",
        "R",
        "thing/a",
        "spec.x",
        source,
        "hello\nworld",
        first,
        count,
        "e",
    ] == row


def test_events_of_the_events_group_are_shown_in_the_same_way() -> None:
    """events.k8s.io has the same fields under other names."""
    kind = ResourceKind(
        group="events.k8s.io", version="v1", kind="Event", plural="events", singular="event"
    )
    document = {
        "metadata": {"name": "e"},
        "regarding": EVENT["involvedObject"],
        "reason": "R",
        "note": "hello\nworld ",
        "type": "Normal",
        "deprecatedSource": {"component": "c", "host": "h"},
        "deprecatedFirstTimestamp": "2026-11-24T10:00:00Z",
        "deprecatedLastTimestamp": "2026-11-24T11:00:00Z",
        "deprecatedCount": 3,
    }
    row = Tabulator(kind).row(document, now=NOW, included=Included.NONE)["cells"]
    assert [
        "60m",
        "Normal",
        "R",
        "thing/a",
        "spec.x",
        "c, h",
        "hello\nworld",
        "120m",
        3,
        "e",
    ] == row
