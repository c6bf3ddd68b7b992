"""One suite for all resource stores: Kubernetes' rules for metadata, optimistic concurrency,
finalizers, and one writer at a time.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import pytest
import yaml

from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.resource_store import KafkaResourceStore
from headrace.adapters.kubernetes.client import connect
from headrace.adapters.kubernetes.store import KubernetesResourceStore
from headrace.adapters.memory.store import MemoryResources, MemoryResourceStore
from headrace.domain.errors import Conflict, NotFound, Unstorable
from headrace.resources.control_ports import ResourceStore
from headrace.resources.kinds import CONFIG_MAP, OWNERSHIP_RECORD
from headrace.resources.resource import (
    AlreadyExists,
    Change,
    KindRegistry,
    NotLeader,
    Resource,
    ResourceKey,
    ResourceKind,
)
from headrace.resources.resource_rules import Precondition
from headrace.runtime.clock import SystemClock
from headrace_controller.reconcile.kinds import RECONCILERS
from tests.support.json_values import HOSTILE_VALUES, generated_values
from tests.support.kafka import KafkaUnderTest
from tests.support.kubernetes import KubernetesUnderTest, sweep_handshakes
from tests.support.wait_until import wait_until_async

THING = ResourceKind(
    group="contract.headrace.dev", version="v1", kind="Thing", plural="things", singular="thing"
)
OTHER = ResourceKind(
    group="contract.headrace.dev", version="v1", kind="Other", plural="others", singular="other"
)
NAMESPACES = ("default", "n1", "n2")
OWN = ["memory", pytest.param("kafka", marks=pytest.mark.kafka)]
"""Stores that implement the rules themselves; in a cluster the API server does."""


class MakeStore(Protocol):
    """Creates stores on the same resources, started."""

    def __call__(self, holder: str = ...) -> Awaitable[ResourceStore]:
        """Create and start one."""
        ...


@pytest.fixture(params=[*OWN, "kubernetes"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Stores of one kind that share their resources, stopped afterwards."""
    build: Callable[[str], ResourceStore] = {
        "memory": _in_memory,
        "kafka": _in_kafka,
        "kubernetes": _in_kubernetes,
    }[request.param](request)
    made: list[ResourceStore] = []

    async def start(holder: str = "one") -> ResourceStore:
        store = build(holder)
        await store.start()
        made.append(store)
        return store

    yield start
    for store in made:
        await store.stop()
    if request.param == "kubernetes":
        made.clear()
        sweep_handshakes()


def _in_memory(_request: pytest.FixtureRequest) -> Callable[[str], ResourceStore]:
    shared = MemoryResources()
    return lambda _: MemoryResourceStore(shared, clock=SystemClock())


def _in_kafka(request: pytest.FixtureRequest) -> Callable[[str], ResourceStore]:
    kafka: KafkaUnderTest = request.getfixturevalue("kafka")
    topic = kafka.create_topic("resources", config={"cleanup.policy": "compact"})
    options = KafkaOptions(bootstrap_servers=kafka.bootstrap_servers)
    return lambda holder: KafkaResourceStore(
        options,
        kinds=KindRegistry((THING, OTHER, *RECONCILERS.stored_kinds)),
        clock=SystemClock(),
        holder=holder,
        topic=topic,
    )


def _in_kubernetes(request: pytest.FixtureRequest) -> Callable[[str], ResourceStore]:
    server: KubernetesUnderTest = request.getfixturevalue("kubernetes")
    _prepare(server)
    lease = f"contract-{uuid.uuid4().hex[:8]}"

    def build(holder: str) -> ResourceStore:
        client = connect(server.kubeconfig)
        return KubernetesResourceStore(
            client,
            kinds=(THING, OTHER, CONFIG_MAP),
            clock=SystemClock(),
            holder=holder,
            lease_namespace="default",
            lease_name=lease,
            namespaces=NAMESPACES,
        )

    return build


def _prepare(server: KubernetesUnderTest) -> None:
    """Kinds that accept everything, the namespaces, and no objects of earlier tests."""
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES
    ]
    server.kubectl(
        "apply",
        "-f",
        "-",
        stdin=yaml.safe_dump_all([*made, _definition(THING), _definition(OTHER)]),
    )
    names = (f"crd/{THING.qualified}", f"crd/{OTHER.qualified}")
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
    for namespace in NAMESPACES:
        for each in server.kubectl(
            "get", "things,others,configmaps", "-n", namespace, "-o", "name"
        ).stdout.split():
            # Objects of an earlier test may still be terminating.
            server.kubectl(
                "patch",
                each,
                "-n",
                namespace,
                "--type=merge",
                "-p",
                '{"metadata": {"finalizers": null}}',
                check=False,
            )
            server.kubectl("delete", each, "-n", namespace, "--ignore-not-found")


def _definition(kind: ResourceKind) -> dict[str, Any]:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": free, "status": free}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.singular}
    spec = {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.qualified},
        "spec": spec,
    }


@pytest.fixture
async def store(make: MakeStore) -> ResourceStore:
    """A store that is the leader."""
    store = await make()
    await wait_until_async(lambda: store.epoch is not None, 15, "the store to write")
    return store


def _resource(
    name: str, kind: ResourceKind = THING, *, namespace: str = "default", **fields: object
) -> Resource:
    metadata = {"name": name, **({"namespace": namespace} if kind.namespaced else {})}
    return Resource(
        kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **fields}
    )


async def test_a_created_resource_has_what_the_server_sets(store: ResourceStore) -> None:
    """uid, creationTimestamp, generation 1 and a resourceVersion come from the store; a status from
    the caller is ignored.
    """
    made = await store.create(_resource("a", spec={"x": 1}, status={"lie": True}))
    assert made.uid
    assert made.version
    assert (1, {}) == (made.generation, made.status)
    assert made == store.get(THING, "default", "a")


async def test_creating_twice_is_refused(store: ResourceStore) -> None:
    """The second create is AlreadyExists, with the API's message."""
    await store.create(_resource("a"))
    with pytest.raises(AlreadyExists, match=r'things\.contract\.headrace\.dev "a" already exists'):
        await store.create(_resource("a"))


async def test_a_missing_resource_is_not_found(store: ResourceStore) -> None:
    """Get, replace, status and delete of a missing resource raise NotFound with the API's
    message.
    """
    message = 'things.contract.headrace.dev "gone" not found'
    with pytest.raises(NotFound, match=message):
        store.get(THING, "default", "gone")
    with pytest.raises(NotFound, match=message):
        await store.replace(_resource("gone"))
    with pytest.raises(NotFound, match=message):
        await store.replace_status(_resource("gone"))
    with pytest.raises(NotFound, match=message):
        await store.delete(THING, "default", "gone")


async def test_generation_counts_spec_changes_only(store: ResourceStore) -> None:
    """A label does not increase the generation, a spec does; uid and creation time never change."""
    made = await store.create(_resource("a", spec={"x": 1}))
    labelled = await store.replace(made.with_metadata(labels={"k": "v"}))
    assert labelled is not None
    changed = await store.replace(Resource(THING, {**labelled.object, "spec": {"x": 2}}))
    assert changed is not None
    assert (1, 2) == (labelled.generation, changed.generation)
    assert (made.uid, made.metadata["creationTimestamp"]) == (
        changed.uid,
        changed.metadata["creationTimestamp"],
    )


async def test_status_and_spec_are_written_separately(store: ResourceStore) -> None:
    """A replace does not change the status, a status write changes nothing else."""
    made = await store.create(_resource("a", spec={"x": 1}))
    shown = await store.replace_status(made.with_status({"ok": True}))
    assert (1, {"ok": True}, {"x": 1}) == (shown.generation, shown.status, shown.spec)
    replaced = await store.replace(
        Resource(THING, {**shown.object, "spec": {"x": 2}, "status": {"ok": False}})
    )
    assert replaced is not None
    assert ({"ok": True}, {"x": 2}) == (replaced.status, replaced.spec)


async def test_a_write_that_changes_nothing_creates_no_version(store: ResourceStore) -> None:
    """The resourceVersion stays, so a converged controller writes nothing."""
    made = await store.create(_resource("a", spec={"x": 1}))
    again = await store.replace(made)
    status = await store.replace_status(made)
    assert again is not None
    assert made.version == again.version == status.version


async def test_an_apply_creates_changes_and_removes_its_own_fields(store: ResourceStore) -> None:
    """Fields of others and the status stay; a field that is no longer applied is removed."""
    first = _resource("a", spec={"x": 1, "in": {"y": 1}})
    made = await store.apply(first.with_metadata(labels={"k": "v"}))
    assert {"x": 1, "in": {"y": 1}} == made.spec
    shown = await store.replace_status(made.with_status({"ok": True}))
    other = await store.replace(Resource(THING, {**shown.object, "spec": {**shown.spec, "o": 3}}))
    assert other is not None
    changed = await store.apply(_resource("a", spec={"x": 2}))
    assert ({"x": 2, "o": 3}, {"ok": True}) == (_without_empty(changed.spec), changed.status)
    assert {} == changed.metadata.get("labels", {})
    assert changed == store.get(THING, "default", "a")


def _without_empty(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if value != {}}


async def test_an_apply_that_changes_nothing_makes_no_version(store: ResourceStore) -> None:
    """Also when others have added fields."""
    made = await store.apply(_resource("a", spec={"x": 1}))
    other = await store.replace(Resource(THING, {**made.object, "spec": {"x": 1, "o": 3}}))
    assert other is not None
    assert other.version == (await store.apply(_resource("a", spec={"x": 1}))).version


async def test_an_apply_adds_its_owner_to_the_others(store: ResourceStore) -> None:
    """References are merged by uid."""
    one, two = (
        {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name} for name in "ab"
    )
    made = await store.create(_resource("a").with_metadata(ownerReferences=[one]))
    changed = await store.apply(_resource("a").with_metadata(ownerReferences=[two]))
    assert [one, two] == changed.metadata["ownerReferences"]
    again = await store.apply(_resource("a").with_metadata(ownerReferences=[two]))
    assert changed.version == again.version != made.version


async def test_an_old_version_conflicts(store: ResourceStore) -> None:
    """A write based on an older version conflicts; one without a version does not."""
    made = await store.create(_resource("a", spec={"x": 1}))
    await store.replace(Resource(THING, {**made.object, "spec": {"x": 2}}))
    with pytest.raises(Conflict, match="the object has been modified"):
        await store.replace(Resource(THING, {**made.object, "spec": {"x": 3}}))
    with pytest.raises(Conflict, match="the object has been modified"):
        await store.replace_status(made.with_status({"ok": True}))
    forced = await store.replace(_resource("a", spec={"x": 3}))
    assert forced is not None
    assert {"x": 3} == forced.spec


async def test_of_concurrent_writers_one_wins(store: ResourceStore) -> None:
    """Of twenty replaces based on one version one is stored, nineteen conflict."""
    made = await store.create(_resource("a", spec={"x": 0}))
    wanted = [Resource(THING, {**made.object, "spec": {"x": n}}) for n in range(1, 21)]
    results = await asyncio.gather(
        *(store.replace(each) for each in wanted), return_exceptions=True
    )
    assert 19 == sum(isinstance(result, Conflict) for result in results)
    assert 2 == store.get(THING, "default", "a").generation


async def test_versions_increase(store: ResourceStore) -> None:
    """A later write has a higher resourceVersion, and a list is at least as new as its newest
    member.
    """
    first = await store.create(_resource("a"))
    second = await store.create(_resource("b"))
    assert int(first.version) < int(second.version) <= int(store.resource_version)


async def test_lists_are_by_kind_and_namespace_in_order(store: ResourceStore) -> None:
    """Other kinds and namespaces are left out; sorted by namespace and name."""
    for name, namespace in (("b", "n1"), ("a", "n2"), ("a", "n1")):
        await store.create(_resource(name, namespace=namespace))
    await store.create(_resource("a", OTHER))
    await store.create(_resource("a", CONFIG_MAP, data={"k": "v"}))
    assert [("n1", "a"), ("n1", "b"), ("n2", "a")] == [
        (each.namespace, each.name) for each in store.list(THING)
    ]
    assert ["a", "b"] == [each.name for each in store.list(THING, "n1")]


async def test_a_delete_without_finalizers_removes(store: ResourceStore) -> None:
    """It is gone, and the name can be used again with another uid."""
    made = await store.create(_resource("a"))
    assert await store.delete(THING, "default", "a") is None
    with pytest.raises(NotFound):
        store.get(THING, "default", "a")
    assert made.uid != (await store.create(_resource("a"))).uid


async def test_a_delete_with_finalizers_marks_and_the_last_one_removes(
    store: ResourceStore,
) -> None:
    """deletionTimestamp is set once; removing the finalizer removes the resource."""
    await store.create(_resource("a").with_metadata(finalizers=["x"]))
    marked = await store.delete(THING, "default", "a")
    assert marked is not None
    assert marked.deleting
    again = await store.delete(THING, "default", "a")
    assert again == marked
    assert await store.replace(marked.with_metadata(finalizers=None)) is None
    with pytest.raises(NotFound):
        store.get(THING, "default", "a")


async def test_a_delete_may_name_the_uid(store: ResourceStore) -> None:
    """Another uid means another resource of the same name."""
    made = await store.create(_resource("a"))
    with pytest.raises(Conflict, match="UID in precondition"):
        await store.delete(THING, "default", "a", precondition=Precondition(uid="other"))
    assert (
        await store.delete(THING, "default", "a", precondition=Precondition(uid=made.uid)) is None
    )


async def test_a_delete_may_name_the_version(store: ResourceStore) -> None:
    """A resource that has changed since is not deleted."""
    made = await store.create(_resource("a"))
    await store.replace(made.with_metadata(labels={"k": "v"}))
    with pytest.raises(Conflict, match="ResourceVersion in precondition"):
        await store.delete(THING, "default", "a", precondition=Precondition(version=made.version))


async def test_a_delete_may_add_finalizers(store: ResourceStore) -> None:
    """A foreground delete marks the resource and adds a finalizer in one write; a repeated one
    changes nothing.
    """
    await store.create(_resource("a"))
    marked = await store.delete(THING, "default", "a", finalizers=("foregroundDeletion",))
    assert marked is not None
    assert (True, ("foregroundDeletion",)) == (marked.deleting, marked.finalizers)
    assert marked == await store.delete(THING, "default", "a")
    assert await store.replace(marked.with_metadata(finalizers=None)) is None


@pytest.mark.parametrize("make", OWN, indirect=True)
async def test_a_status_write_may_say_who_manages_it(store: ResourceStore) -> None:
    """managedFields are written with a status, nothing else of the metadata is."""
    made = await store.create(_resource("a", spec={"x": 1}))
    managed = [{"manager": "m", "operation": "Update", "subresource": "status"}]
    shown = await store.replace_status(
        made.with_status({"ok": True}).with_metadata(managedFields=managed, labels={"k": "v"})
    )
    assert (managed, None) == (shown.metadata.get("managedFields"), shown.metadata.get("labels"))


async def test_watchers_get_every_change_in_order(store: ResourceStore) -> None:
    """Create, replace and delete are delivered with the state before and after, not inside the call
    that registers the watcher.
    """
    heard: list[Change] = []
    store.watch(heard.extend)
    assert [] == heard
    made = await store.create(_resource("a"))
    labelled = await store.replace(made.with_metadata(labels={"k": "v"}))
    await store.delete(THING, "default", "a")
    await wait_until_async(lambda: len(heard) >= 3, 5, "all changes to be heard")
    assert [(None, made), (made, labelled), (labelled, None)] == [
        (each.before, each.after) for each in heard
    ]
    assert {ResourceKey("contract.headrace.dev", "things", "default", "a")} == {
        each.key for each in heard
    }
    versions = [int(each.version) for each in heard]
    assert versions == sorted(set(versions))
    assert labelled is not None
    assert [made.version, labelled.version] == [each.version for each in heard[:2]]


@pytest.mark.parametrize("make", OWN, indirect=True)
async def test_a_kind_without_definition_is_kept(make: MakeStore) -> None:
    """The definition of a kind may come after its resources in the log, so a reader accepts them as
    they are.
    """
    foreign = ResourceKind(
        group="example.com", version="v1", kind="Thing", plural="things", singular="thing"
    )
    first = await make("one")
    await wait_until_async(lambda: first.epoch is not None, 15, "the first to write")
    made = await first.create(_resource("a", foreign, spec={"x": 1}))
    await first.stop()
    second = await make("one")
    assert [made.object] == [each.object for each in second.list(foreign)]


@pytest.mark.parametrize("make", OWN, indirect=True)
async def test_the_controllers_own_records_are_in_the_same_store(store: ResourceStore) -> None:
    """Kinds without namespaces are stored under their name only."""
    await store.create(_resource("uid-1", OWNERSHIP_RECORD, spec={"group": "g"}))
    assert {"group": "g"} == store.get(OWNERSHIP_RECORD, "", "uid-1").spec


async def test_a_second_store_is_a_standby_and_takes_over(make: MakeStore) -> None:
    """It reads what the first wrote, refuses to write, and writes in a later term when the first
    releases leadership.
    """
    first = await make("one")
    await wait_until_async(lambda: first.epoch is not None, 15, "the first to write")
    made = await first.create(_resource("a"))
    second = await make("two")
    notified: list[Sequence[Change]] = []
    second.watch(notified.append)
    await wait_until_async(lambda: [made] == list(second.list(THING)), 10, "the second to read")
    with pytest.raises(NotLeader):
        await second.create(_resource("b"))
    before = first.epoch
    await first.stop()
    await wait_until_async(lambda: second.epoch is not None, 15, "the second to write")
    await wait_until_async(
        lambda: any(not changes for changes in notified), 5, "a change of leadership"
    )
    assert before is not None
    assert second.epoch is not None
    assert before < second.epoch
    await second.create(_resource("b"))
    assert ["a", "b"] == [each.name for each in second.list(THING)]
    with pytest.raises(NotLeader):
        await first.create(_resource("c"))


async def test_everything_is_available_after_a_restart(make: MakeStore) -> None:
    """A store of the same name that restarts reads the same resources, including versions, and can
    write at once.
    """
    first = await make("one")
    await wait_until_async(lambda: first.epoch is not None, 15, "the first to write")
    made = [await first.create(_resource(name, spec={"n": name})) for name in ("a", "b", "c")]
    await first.delete(THING, "default", "b")
    await first.stop()
    second = await make("one")
    assert [made[0], made[2]] == list(second.list(THING))
    await wait_until_async(lambda: second.epoch is not None, 15, "the second to write")


async def test_the_first_write_is_later_than_an_empty_store(store: ResourceStore) -> None:
    """A client that lists nothing and watches from there must not miss it."""
    empty = int(store.resource_version)
    assert empty < int((await store.create(_resource("first"))).version)


@pytest.mark.parametrize("make", OWN, indirect=True)
async def test_what_is_acknowledged_can_be_read_after_a_restart(make: MakeStore) -> None:
    """Whatever value a resource contains: it is refused, or it is unchanged after a restart. A
    refusal does not affect any other write.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    values = [*HOSTILE_VALUES, *generated_values(random.Random(seed), 150)]
    first = await make("one")
    await wait_until_async(lambda: first.epoch is not None, 15, "the store to write")
    acknowledged: dict[str, Resource] = {}
    for number, value in enumerate(values):
        name = f"v{number}"
        with suppress(Unstorable):
            made = await first.create(_resource(name, spec={"v": number}))
            acknowledged[name] = made
            changed = await first.replace(Resource(THING, {**made.object, "spec": {"v": value}}))
            acknowledged[name] = changed or made
        with suppress(Unstorable):
            acknowledged[f"c{number}"] = await first.create(
                _resource(f"c{number}", spec={"v": value})
            )
    assert first.epoch is not None
    assert "c0" in acknowledged
    await first.stop()
    second = await make("one")
    await wait_until_async(lambda: second.epoch is not None, 15, "the store to write")
    assert {name: each.object for name, each in acknowledged.items()} == {
        name: second.get(THING, "default", name).object for name in acknowledged
    }
    assert len(acknowledged) == len(second.list(THING, "default"))
