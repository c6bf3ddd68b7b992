"""The required behaviour of a resource store as a small model over a dictionary, and sequences of
operations to compare a store with it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.domain.errors import Conflict, NotFound
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import AlreadyExists, Change, Resource, ResourceKind

NAMESPACE = "default"
NAMES = ("a", "b", "c")
VERBS = (
    "create",
    "replace",
    "stale replace",
    "patch",
    "status",
    "hold",
    "release",
    "delete",
    "read",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on the resource of a name; `value` goes into its spec or status."""

    verb: str
    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource in the model."""

    spec: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    generation: int = 1
    held: bool = False
    deleting: bool = False


def sequence(seed: int, length: int) -> list[Operation]:
    """Operations from a seed."""
    rng = random.Random(seed)
    return [
        Operation(rng.choice(VERBS), rng.choice(NAMES), rng.randrange(4)) for _ in range(length)
    ]


class Model:
    """The expected result of each operation: an entry, None if deleted, or the class of an
    error.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def expect(self, operation: Operation) -> Entry | type[Exception] | None:
        """Carry out one operation."""
        name, old = operation.name, self.entries.get(operation.name)
        if operation.verb == "create":
            return AlreadyExists if old else self._put(name, Entry({"x": operation.value}))
        if old is None:
            return NotFound
        match operation.verb:
            case "read":
                return old
            case "stale replace":
                return Conflict
            case "replace":
                return self._put(name, _respecified(old, {"x": operation.value}))
            case "patch":
                return self._put(name, _respecified(old, {**old.spec, "y": operation.value}))
            case "status":
                return self._put(name, replace(old, status={"z": operation.value}))
            case "hold":
                # A resource that is being deleted gets no new finalizers.
                return old if old.deleting else self._put(name, replace(old, held=True))
            case "release":
                if not old.deleting:
                    return self._put(name, replace(old, held=False))
            case _ if old.held:
                # The deletion timestamp changes the desired state: the generation counts it once.
                return (
                    old
                    if old.deleting
                    else self._put(name, replace(old, deleting=True, generation=old.generation + 1))
                )
        del self.entries[name]
        return None

    def _put(self, name: str, entry: Entry) -> Entry:
        self.entries[name] = entry
        return entry


def _respecified(old: Entry, spec: dict[str, Any]) -> Entry:
    return old if spec == old.spec else replace(old, spec=spec, generation=old.generation + 1)


class Follower:
    """The state that a watching client has."""

    def __init__(self) -> None:
        self.known: dict[str, Resource] = {}
        self.versions: list[str] = []

    def hear(self, changes: Sequence[Change]) -> None:
        """Apply changes; each must start from the end of the last one of its key."""
        for change in changes:
            before = self.known.get(change.key.name)
            assert (before and before.object) == (change.before and change.before.object), (
                f"{change.key} did not start from its last version"
            )
            self.versions.append(change.version)
            if change.after is None:
                self.known.pop(change.key.name)
            else:
                self.known[change.key.name] = change.after


async def carry_out(
    store: ResourceStore, kind: ResourceKind, operation: Operation
) -> Resource | None:
    """Perform one operation as a client of the store would; returns the resulting resource. Raises
    what the store raises.
    """
    name = operation.name
    if operation.verb == "create":
        metadata = {"name": name, "namespace": NAMESPACE}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": metadata,
            "spec": {"x": operation.value},
        }
        return await store.create(Resource(kind, body))
    if operation.verb == "delete":
        return await store.delete(kind, NAMESPACE, name)
    old = store.get(kind, NAMESPACE, name)
    match operation.verb:
        case "replace":
            return await store.replace(
                Resource(kind, {**old.object, "spec": {"x": operation.value}})
            )
        case "patch":
            return await store.replace(
                Resource(kind, {**old.object, "spec": {**old.spec, "y": operation.value}})
            )
        case "stale replace":
            return await store.replace(
                Resource(kind, {**old.object, "spec": {"x": -1}}).with_metadata(
                    resourceVersion="999999999"
                )
            )
        case "status":
            return await store.replace_status(old.with_status({"z": operation.value}))
        case "hold":
            return (
                old
                if old.deleting
                else await store.replace(old.with_metadata(finalizers=["test.headrace.dev/hold"]))
            )
        case "release":
            return await store.replace(old.with_metadata(finalizers=None))
        case _:
            return old


def as_entry(found: Resource) -> Entry:
    """A resource as an entry of the model."""
    return Entry(
        dict(found.spec),
        dict(found.status),
        found.generation,
        bool(found.finalizers),
        found.deleting,
    )


async def run(store: ResourceStore, kind: ResourceKind, operations: Sequence[Operation]) -> Model:
    """Perform operations on the store and on a model; AssertionError if the results differ."""
    model = Model()
    for number, operation in enumerate(operations):
        expected = model.expect(operation)
        context = f"step {number}, {operation}"
        try:
            found = await carry_out(store, kind, operation)
        except (NotFound, Conflict) as error:
            assert expected is type(error), f"{context}: {error!r} instead of {expected}"
            continue
        assert expected == (None if found is None else as_entry(found)), context
        there = {each.name: as_entry(each) for each in store.list(kind, NAMESPACE)}
        assert model.entries == there, context
    return model
