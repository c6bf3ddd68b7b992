"""Laws of server-side apply: what holds for any managers that apply anything, in any order."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_apiserver.patching.apply import (
    WriteContext,
    applied,
    keep_unchanged_times,
    track_managed_fields,
)
from headrace_apiserver.patching.field_set import FieldSet, read_fields, write_fields
from headrace_apiserver.patching.field_types import root_type
from headrace_apiserver.patching.managed_fields import read_managed_fields
from headrace_apiserver.patching.typed_values import compared, fields_of, same
from headrace_apiserver.statuses import StatusError

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "inner": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                },
                "whole": {"type": "array", "items": {"type": "integer"}},
                "set": {
                    "type": "array",
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "string"},
                },
                "entries": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
                    },
                },
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}
KIND = root_type(SCHEMA)

letters = st.sampled_from("abc")
few = st.integers(0, 2)
entries = st.dictionaries(letters, st.none() | few, max_size=3).map(
    lambda found: [{"name": name} | ({} if n is None else {"n": n}) for name, n in found.items()]
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "text": letters,
        "inner": st.fixed_dictionaries({}, optional={"a": few, "b": few}),
        "whole": st.lists(few, max_size=2),
        "set": st.lists(letters, unique=True, max_size=3),
        "entries": entries,
        "labels": st.dictionaries(letters, letters, max_size=3),
        "free": st.dictionaries(
            letters,
            few | st.lists(few, max_size=2) | st.dictionaries(letters, few, max_size=2),
            max_size=2,
        ),
    },
)
managers = st.sampled_from(["m", "n", "o"])
steps = st.lists(st.tuples(managers, specs), min_size=1, max_size=5)


def by(manager: str, moment: int = 0) -> WriteContext:
    """A write by this manager."""
    return WriteContext(
        manager=manager, api_version="test.dev/v1", now=f"2026-01-01T00:00:{moment:02d}Z"
    )


def thing(spec: dict[str, Any]) -> dict[str, Any]:
    """A document with a field that all managers agree on: an object without any manager is not
    tracked until the first apply.
    """
    return {
        "apiVersion": "test.dev/v1",
        "kind": "Thing",
        "metadata": {"name": "a", "labels": {"l": "1"}},
        "spec": spec,
    }


def after(sequence: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The object after these applies, each of them forced."""
    live: dict[str, Any] | None = None
    for moment, (manager, spec) in enumerate(sequence):
        live = applied(live, thing(spec), SCHEMA, by(manager, moment), force=True)
    return live or thing({})


def owned(document: dict[str, Any], manager: str) -> FieldSet:
    """The fields a manager owns."""
    return frozenset(
        path
        for name, owner in read_managed_fields(document).items()
        if name.manager == manager
        for path in owner.fields
    )


@settings(max_examples=60)
@given(steps)
def test_applying_twice_changes_nothing(sequence: list[tuple[str, dict[str, Any]]]) -> None:
    """A repeated apply is not a change, and does not need force."""
    manager, spec = sequence[-1]
    live = after(sequence)
    assert live == keep_unchanged_times(live, applied(live, thing(spec), SCHEMA, by(manager, 30)))


@settings(max_examples=60)
@given(steps)
def test_applied_fields_are_present(sequence: list[tuple[str, dict[str, Any]]]) -> None:
    """Every field of the last apply is present with its value, and owned by its manager."""
    live = after(sequence)
    manager, spec = sequence[-1]
    wanted = fields_of(thing(spec), KIND)
    assert wanted <= fields_of(live, KIND) | {
        path for path in wanted if not _leads_to_a_value(thing(spec), path)
    }
    assert not compared(
        thing(spec), applied(live, thing(spec), SCHEMA, by(manager)), KIND
    ).modified - {("f:metadata", "f:managedFields")}
    assert {path for path in wanted if path[0] == "f:spec"} == {
        path for path in owned(live, manager) if path[0] == "f:spec"
    }


def _leads_to_a_value(document: dict[str, Any], path: tuple[str, ...]) -> bool:
    """False for empty objects, which are no longer empty when others apply fields below them."""
    value: Any = document
    for element in path:
        if not element.startswith("f:") or not isinstance(value, dict):
            return True
        value = value.get(element[2:])
    return bool(value != {})


@settings(max_examples=60)
@given(specs, specs)
def test_a_field_that_its_only_owner_drops_is_removed(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """With one manager, the object is what it applied last; empty lists may stay where there were
    entries.
    """
    live = after([("m", first), ("m", second)])
    left = {name: value for name, value in live.get("spec", {}).items() if value != []}
    assert {name: value for name, value in second.items() if value != []} == left


@settings(max_examples=60)
@given(steps, specs)
def test_fields_with_another_owner_stay(
    sequence: list[tuple[str, dict[str, Any]]], spec: dict[str, Any]
) -> None:
    """A manager that drops everything removes nothing from the others."""
    live = after([*sequence, ("other", spec)])
    rest = applied(live, thing({}), SCHEMA, by("other", 30))
    for manager in ("m", "n", "o"):
        assert owned(live, manager) == owned(rest, manager)
    kept = {path for manager in "mno" for path in owned(live, manager)}
    assert {path for path in kept if path in fields_of(live, KIND)} <= fields_of(rest, KIND) | {
        path for path in kept if _emptied(rest, path)
    }


def _emptied(document: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Whether the path ends at an existing object, empty or not: only empty ones are fields
    themselves.
    """
    value: Any = document
    for element in path:
        if not isinstance(value, dict) or not element.startswith("f:") or element[2:] not in value:
            return False
        value = value[element[2:]]
    return True


@settings(max_examples=60)
@given(specs, specs)
def test_conflicts_are_symmetric(first: dict[str, Any], second: dict[str, Any]) -> None:
    """If one manager conflicts with the other, the other conflicts with it, for the same fields."""
    assert _conflicts(first, second) == _conflicts(second, first)


def _conflicts(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    """The fields for which `second` is refused over `first`; an empty object conflicts with
    nothing, whichever is applied first.
    """
    live = applied(None, thing(first), SCHEMA, by("m"))
    try:
        applied(live, thing(second), SCHEMA, by("n"))
    except StatusError as error:
        return {
            cause["field"]
            for cause in error.status["details"]["causes"]
            if not cause["field"].startswith(".spec.free")
        }
    return set()


@settings(max_examples=60)
@given(specs, specs)
def test_forcing_leaves_no_conflict(first: dict[str, Any], second: dict[str, Any]) -> None:
    """After a forced apply, the same apply needs no force."""
    live = after([("m", first), ("n", second)])
    applied(live, thing(second), SCHEMA, by("n", 30))


@settings(max_examples=60)
@given(specs, specs)
def test_an_update_leaves_every_field_with_one_owner_who_changed_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Changed fields belong to the updating manager alone, unchanged fields to their former
    managers.
    """
    live = applied(None, thing(first), SCHEMA, by("m"))
    new = track_managed_fields(live, thing(second), SCHEMA, by("u", 1))
    difference = compared(thing(first), thing(second), KIND)
    assert difference.changed == set(owned(new, "u"))
    assert owned(live, "m") - difference.changed - difference.removed == owned(new, "m")


@settings(max_examples=60)
@given(specs)
def test_fields_survive_being_written_and_read(spec: dict[str, Any]) -> None:
    """managedFields represent a field set without loss."""
    fields = fields_of(thing(spec), KIND)
    assert fields == read_fields(write_fields(fields))


@settings(max_examples=60)
@given(specs)
def test_nothing_differs_from_itself(spec: dict[str, Any]) -> None:
    """A comparison of a document with itself is empty."""
    difference = compared(thing(spec), thing(spec), KIND)
    assert not (difference.added or difference.modified or difference.removed)
    assert same(spec, spec)
