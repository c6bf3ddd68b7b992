"""Apply and tracking of field managers, in cases that the recorded sequences do not contain."""

from typing import Any

import pytest

from headrace_apiserver.patching.apply import (
    WriteContext,
    applied,
    keep_unchanged_times,
    track_managed_fields,
)
from headrace_apiserver.patching.managed_fields import (
    UPDATERS_MAX,
    FieldManager,
    ManagerKey,
    cap_update_managers,
    read_managed_fields,
    write_managed_fields,
)
from headrace_apiserver.statuses import StatusError

SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "broker": {"type": "string"},
                "delivery": {"type": "object", "properties": {"retry": {"type": "integer"}}},
                "set": {
                    "type": "array",
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "string"},
                },
            },
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    },
}


def by(manager: str, moment: int = 0, subresource: str = "") -> WriteContext:
    """A write by this manager."""
    return WriteContext(
        manager=manager,
        api_version="test.dev/v1",
        now=f"2026-01-01T00:00:{moment:02d}Z",
        subresource=subresource,
    )


def thing(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A document."""
    return {
        "apiVersion": "test.dev/v1",
        "kind": "Thing",
        "metadata": {"name": "a", **metadata},
        "spec": spec,
    }


def test_an_object_without_remaining_fields_stays_as_an_empty_object() -> None:
    """An object or list that a later apply empties does not become null, which its schema would
    refuse.
    """
    live = applied(None, thing({"delivery": {"retry": 1}}), SCHEMA, by("m"))
    assert {"delivery": {}} == applied(live, thing({"delivery": {}}), SCHEMA, by("m", 1))["spec"]


def test_applying_twice_keeps_the_first_time() -> None:
    """An apply that changes nothing does not change managedFields, so that the write can be
    skipped.
    """
    live = applied(None, thing({"broker": "x"}), SCHEMA, by("m"))
    again = keep_unchanged_times(live, applied(live, thing({"broker": "x"}), SCHEMA, by("m", 5)))
    assert live == again


def test_an_update_that_changes_nothing_keeps_the_times() -> None:
    """The same document again is not a change."""
    live = track_managed_fields(None, thing({"broker": "x"}), SCHEMA, by("u"))
    assert live == keep_unchanged_times(
        live, track_managed_fields(live, thing({"broker": "x"}), SCHEMA, by("u", 5))
    )


def test_another_manager_with_the_same_values_is_a_change() -> None:
    """A new manager must be stored even if no field changes."""
    live = applied(None, thing({"broker": "x"}), SCHEMA, by("m"))
    both = keep_unchanged_times(live, applied(live, thing({"broker": "x"}), SCHEMA, by("n", 5)))
    assert ["m", "n"] == [entry["manager"] for entry in both["metadata"]["managedFields"]]


def test_a_write_to_the_status_owns_only_the_status() -> None:
    """Other fields that a client sends with a status are not stored, and therefore not owned."""
    live = track_managed_fields(None, thing({"broker": "x"}, labels={"a": "1"}), SCHEMA, by("u"))
    sent = {**thing({"broker": "y"}), "status": {"phase": "p"}}
    owners = read_managed_fields(track_managed_fields(live, sent, SCHEMA, by("c", 1, "status")))
    status = {
        (name.manager, path)
        for name, owner in owners.items()
        for path in owner.fields
        if name.subresource
    }
    assert {("c", ("f:status",)), ("c", ("f:status", "f:phase"))} == status
    assert (
        owners[ManagerKey("u", "Update", "test.dev/v1", "")]
        == read_managed_fields(live)[ManagerKey("u", "Update", "test.dev/v1", "")]
    )


def test_a_kind_without_status_endpoint_owns_its_status_like_the_rest() -> None:
    """The main endpoint writes its status."""
    write = WriteContext(
        manager="u", api_version="v1", now="2026-01-01T00:00:00Z", has_status=False
    )
    (owner,) = read_managed_fields(
        track_managed_fields(None, {**thing({}), "status": {"phase": "p"}}, SCHEMA, write)
    ).values()
    assert ("f:status", "f:phase") in owner.fields


def test_a_client_that_does_not_know_managed_fields_does_not_clear_them() -> None:
    """managedFields that a replace omits are kept."""
    live = applied(None, thing({"broker": "x"}), SCHEMA, by("m"))
    new = track_managed_fields(live, thing({"broker": "x"}, labels={"a": "1"}), SCHEMA, by("u", 1))
    assert {"m", "u"} == {name.manager for name in read_managed_fields(new)}


def test_a_client_may_rewrite_the_owners() -> None:
    """kubectl migrates from client-side apply by rewriting managedFields, so entries in a written
    document count.
    """
    live = track_managed_fields(
        None, thing({"broker": "x"}), SCHEMA, by("kubectl-client-side-apply")
    )
    entries = [{**live["metadata"]["managedFields"][0], "manager": "kubectl", "operation": "Apply"}]
    new = track_managed_fields(
        live, thing({"broker": "x"}, managedFields=entries), SCHEMA, by("kubectl", 1)
    )
    assert [ManagerKey("kubectl", "Apply", "", "")] == list(read_managed_fields(new))


def test_an_apply_must_not_contain_managed_fields() -> None:
    """managedFields in an applied document are refused."""
    with pytest.raises(StatusError, match=r"metadata\.managedFields must be nil"):
        applied(None, thing({}, managedFields=[{"manager": "m"}]), SCHEMA, by("m"))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"set": ["x", "x"]}, '.spec.set: duplicate entries for key [="x"]'),
        ({"set": {"x": 1}}, ".spec.set: expected list, got map"),
        ({"delivery": "x"}, ".spec.delivery: expected map, got string"),
        ({"delivery": [1]}, ".spec.delivery: expected map, got list"),
    ],
)
def test_a_document_that_does_not_match_its_structure_is_refused(
    spec: dict[str, Any], problem: str
) -> None:
    """Merging it into the live object would silently lose the parts that do not match."""
    with pytest.raises(StatusError) as caught:
        applied(None, thing(spec), SCHEMA, by("m"))
    assert (
        400,
        f"failed to create typed patch object (/a; test.dev/v1, Kind=Thing): {problem}",
    ) == (caught.value.code, str(caught.value))


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {"manager": "m", "operation": "Nonsense", "apiVersion": "v1"},
        {"manager": "m", "operation": "Apply"},
        {"manager": "m" * 129, "operation": "Apply", "apiVersion": "v1"},
        {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"spec": {}}},
        {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsV1": "text"},
    ],
)
def test_an_invalid_entry_is_dropped(entry: Any) -> None:
    """managedFields may be written by clients; an invalid entry is dropped, and the write
    succeeds.
    """
    assert {} == read_managed_fields(thing({}, managedFields=[entry]))


def test_owners_survive_being_written_and_read() -> None:
    """What is written is read back the same."""
    owners = {
        ManagerKey("m", "Apply", "", ""): FieldManager(
            "v1",
            frozenset({("f:spec",), ("f:spec", 'k:{"name":"x"}', "f:a")}),
            "2026-01-01T00:00:00Z",
        ),
        ManagerKey("m", "Update", "v1", "status"): FieldManager(
            "v1", frozenset({("f:status", 'v:"x"')}), ""
        ),
    }
    assert owners == read_managed_fields(
        {"metadata": {"managedFields": write_managed_fields(owners)}}
    )


def test_the_oldest_updaters_become_one_for_each_version() -> None:
    """The list of managers is bounded; managers that apply are never merged."""
    names = [
        ManagerKey(f"u{number:02d}", "Update", f"v{number % 2}", "")
        for number in range(UPDATERS_MAX + 5)
    ]
    owners = {
        name: FieldManager(
            name.api_version, frozenset({(f"f:{name.manager}",)}), f"2026-01-01T00:00:{at:02d}Z"
        )
        for at, name in enumerate(names)
    }
    owners[ManagerKey("a", "Apply", "", "")] = FieldManager(
        "v1", frozenset({("f:x",)}), "2020-01-01T00:00:00Z"
    )
    result = cap_update_managers(owners)
    assert UPDATERS_MAX + 1 == len(result)
    assert {"ancient-changes", "a"} == {name.manager for name in result} - {
        name.manager for name in names
    }
    assert {path for owner in owners.values() for path in owner.fields} == {
        path for owner in result.values() for path in owner.fields
    }
