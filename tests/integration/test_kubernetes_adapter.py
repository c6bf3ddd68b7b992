"""The adapter `kubernetes` on a real API server: what it sends, where it resumes, and what it may
not read.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace.adapters.kubernetes.watcher import Scope
from headrace.domain.event import Event
from headrace_sources.adapters.kubernetes.config import KubernetesConfig
from headrace_sources.adapters.kubernetes.position import decode, encode
from headrace_sources.adapters.kubernetes.source import KubernetesSource
from headrace_sources.api_server import ApiServer
from headrace_sources.source import NotDelivered, SourceFault
from tests.support.kubernetes import SOURCES_TOKEN, KubernetesUnderTest
from tests.support.sources import RecordingContext, RecordingEmit, running

CONFIG_MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}


class Cluster:
    """A namespace of its own in the API server, used as its administrator."""

    def __init__(self, kubernetes: KubernetesUnderTest, namespace: str) -> None:
        self.kubernetes, self.namespace = kubernetes, namespace
        self.make_namespace(namespace)

    def make_namespace(self, name: str, **labels: str) -> None:
        """Create a namespace."""
        metadata = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def apply(self, document: dict[str, Any]) -> None:
        """Apply an object."""
        self.kubernetes.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def put(self, name: str, data: str = "", namespace: str = "", **metadata: Any) -> None:
        """Create or change a ConfigMap."""
        self.apply(
            {
                **CONFIG_MAPS,
                "metadata": {"name": name, "namespace": namespace or self.namespace, **metadata},
                "data": {"key": data},
            }
        )

    def remove(self, name: str) -> None:
        """Delete a ConfigMap."""
        self.kubernetes.kubectl("delete", "configmap", name, "-n", self.namespace)

    def context(self, *, token: str = "", cursor: str | None = None) -> RecordingContext:
        """A context of a source here, of the administrator unless `token` is another's."""
        context = RecordingContext(namespace=self.namespace, cursor=cursor)
        context.api_server = ApiServer(
            kubeconfig=self.kubernetes.kubeconfig_of("sources", token)
            if token
            else self.kubernetes.kubeconfig
        )
        return context


@pytest.fixture
def cluster(kubernetes: KubernetesUnderTest, request: pytest.FixtureRequest) -> Cluster:
    """A namespace for one test."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    return Cluster(kubernetes, f"watch-{name}"[:63].rstrip("-"))


@asynccontextmanager
async def following(
    context: RecordingContext, emit: RecordingEmit, **config: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """Run a source within the block, which begins when its watches are open."""
    settings = {"resources": [CONFIG_MAPS], **config}
    source = KubernetesSource(KubernetesConfig.model_validate(settings), context)
    async with running(source, emit) as task:
        await until(lambda: context.conditions.get("SufficientPermissions", (None,))[0], task)
        yield task


async def until(predicate: Any, task: asyncio.Task[None] | None = None) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not predicate():
        assert time.monotonic() < deadline, "it does not come true"
        if task is not None and task.done():
            task.result()
        await asyncio.sleep(0.02)


def changes(events: list[Event]) -> list[tuple[str, str]]:
    """What was sent: what happened, to what."""
    return [
        (str(each.attributes["type"]).rpartition(".")[2], str(each.attributes["name"]))
        for each in events
    ]


async def test_references(cluster: Cluster) -> None:
    """Only what changes from now on is sent; the data is a reference."""
    cluster.put("before")
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit):
        cluster.put("one")
        cluster.put("one", "changed")
        cluster.remove("one")
        await emit.wait_for(3)
    assert changes(emit.events) == [("add", "one"), ("update", "one"), ("delete", "one")]
    first = emit.events[0]
    server, namespace = cluster.kubernetes.server, cluster.namespace
    assert first.attributes["type"] == "dev.knative.apiserver.ref.add"
    assert first.attributes["source"] == server
    assert first.attributes["subject"] == f"/apis/v1/namespaces/{namespace}/configmaps/one"
    assert first.attributes["apiversion"] == "v1"
    assert first.attributes["kind"] == "ConfigMap"
    assert first.attributes["namespace"] == namespace
    assert json.loads(first.data or b"") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "one",
        "namespace": namespace,
    }
    assert context.fields["namespaces"] == [namespace]
    kinds = [each["type"] for each in context.fields["ceAttributes"]]
    assert kinds == [f"dev.knative.apiserver.ref.{verb}" for verb in ("add", "update", "delete")]


async def test_references_are_read_without_the_content(cluster: Cluster) -> None:
    """The server leaves it out: what is in a Secret never gets here."""
    cluster.put("one", "secret")
    server = cluster.context().api_server
    assert server is not None
    async with server.open() as api:
        kind = await api.find("v1", "ConfigMap")
        scope = Scope(kind=kind, namespace=cluster.namespace, metadata_only=True)
        page = await api.list_page(scope)
        [found] = [each for each in page.items if each["metadata"]["name"] == "one"]
        assert "data" not in found
        cluster.put("two", "secret")
        async with api.watch(scope, page.version) as changes:
            first = await anext(changes)
        assert first.object["metadata"]["name"] == "two"
        assert "data" not in first.object


async def test_resources_with_selector_and_owner(cluster: Cluster) -> None:
    """The data is the object, as the API has it."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "1"}
    labels = {"app": "shop"}
    context, emit = cluster.context(), RecordingEmit()
    config = {
        "mode": "Resource",
        "resources": [{**CONFIG_MAPS, "selector": "app=shop"}],
        "owner": {"apiVersion": "apps/v1", "kind": "Deployment"},
    }
    async with following(context, emit, **config):
        cluster.put("unlabelled", ownerReferences=[{**owner, "controller": True}])
        cluster.put("unowned", labels=labels)
        cluster.put("not-controlled", labels=labels, ownerReferences=[owner])
        cluster.put("both", "x", labels=labels, ownerReferences=[{**owner, "controller": True}])
        await emit.wait_for(1)
    assert changes(emit.events) == [("add", "both")]
    document = json.loads(emit.events[0].data or b"")
    assert (document["apiVersion"], document["kind"]) == ("v1", "ConfigMap")
    assert document["data"] == {"key": "x"}
    assert document["metadata"]["uid"]


async def test_filters(cluster: Cluster) -> None:
    """Of Triggers: all must pass."""
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit, filters=[{"suffix": {"type": ".delete"}}]):
        cluster.put("one")
        cluster.remove("one")
        await emit.wait_for(1)
    assert changes(emit.events) == [("delete", "one")]


async def test_a_restart_continues_where_it_was(cluster: Cluster) -> None:
    """What changed meanwhile is sent, once; what is old is not."""
    cluster.put("old")
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit):
        cluster.put("one")
        await emit.wait_for(1)
    cluster.put("two")
    cluster.remove("one")
    again = RecordingEmit()
    async with following(cluster.context(cursor=context.cursor), again):
        cluster.put("three")
        await again.wait_for(3)
    assert changes(again.events) == [("add", "two"), ("delete", "one"), ("add", "three")]


async def test_after_410_only_what_has_changed_is_sent(cluster: Cluster) -> None:
    """The objects are listed again, and compared with the names in the cursor: no storm."""
    for name in ("kept", "changed", "removed", "replaced"):
        cluster.put(name)
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit):
        cluster.put("one")
        await emit.wait_for(1)
    cluster.put("changed", "x")
    cluster.remove("removed")
    cluster.remove("replaced")
    cluster.put("replaced")
    cluster.put("new")
    again = RecordingEmit()
    with cluster.kubernetes.another_api_server() as other:
        positions = decode(context.cursor, cluster.kubernetes.server)
        cursor = encode(other.server, positions, 0.0)
        async with following(Cluster(other, cluster.namespace).context(cursor=cursor), again):
            await again.wait_for(5)
            cluster.put("last")
            await again.wait_for(6)
    assert sorted(changes(again.events[:5])) == [
        ("add", "new"),
        ("add", "replaced"),
        ("delete", "removed"),
        ("delete", "replaced"),
        ("update", "changed"),
    ]
    assert changes(again.events[5:]) == [("add", "last")]


async def test_after_410_without_names_only_what_has_changed_is_sent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a cursor has no space for the names, the versions of the objects say what is new; what
    was removed meanwhile is not known.
    """
    monkeypatch.setattr("headrace_sources.adapters.kubernetes.position.NAMES_MAX", 2)
    for name in ("kept", "changed", "removed"):
        cluster.put(name)
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit):
        cluster.put("one")
        await emit.wait_for(1)
    assert context.cursor is not None
    cluster.put("changed", "x")
    cluster.remove("removed")
    again = RecordingEmit()
    with cluster.kubernetes.another_api_server() as other:
        positions = decode(context.cursor, cluster.kubernetes.server)
        assert [each.complete for each in positions.values()] == [False]
        # Objects that were created after that are new; their clock is that of the API server.
        cursor = encode(other.server, positions, time.time() + 1)
        async with following(Cluster(other, cluster.namespace).context(cursor=cursor), again):
            await again.wait_for(1)
            cluster.put("last")
            await again.wait_for(2)
    assert changes(again.events) == [("update", "changed"), ("add", "last")]


async def test_what_the_sink_refuses_is_sent_again(cluster: Cluster) -> None:
    """The cursor does not pass an event that is not delivered."""
    context, emit = cluster.context(), RecordingEmit()
    with pytest.raises(NotDelivered):
        async with following(context, emit) as task:
            cluster.put("one")
            await emit.wait_for(1)
            emit.refuse = 1
            cluster.put("two")
            cluster.put("three")
            await asyncio.wait({task})
    again = RecordingEmit()
    async with following(cluster.context(cursor=context.cursor), again):
        await again.wait_for(2)
    assert changes(again.events) == [("add", "two"), ("add", "three")]


async def test_namespaces_by_label(cluster: Cluster) -> None:
    """One that gets the label later is followed from then on, and one that loses it is not."""
    label = cluster.namespace
    first, second = f"{cluster.namespace}-a", f"{cluster.namespace}-b"
    cluster.make_namespace(first, team=label)
    cluster.make_namespace(second)
    context, emit = cluster.context(), RecordingEmit()
    async with following(context, emit, namespaceSelector=f"team={label}") as task:
        assert context.fields["namespaces"] == [first]
        cluster.put("not-selected")
        cluster.put("one", namespace=first)
        cluster.put("early", namespace=second)
        await emit.wait_for(1)
        cluster.make_namespace(second, team=label)
        cluster.put("two", namespace=second)
        await emit.wait_for(2)
        assert context.fields["namespaces"] == [first, second]
        cluster.make_namespace(first)
        await until(lambda: context.fields["namespaces"] == [second], task)
        cluster.put("late", namespace=first)
        cluster.put("three", namespace=second)
        await emit.wait_for(3)
    assert changes(emit.events) == [("add", "one"), ("add", "two"), ("add", "three")]


async def test_all_namespaces(cluster: Cluster) -> None:
    """The empty selector is one watch."""
    other = f"{cluster.namespace}-a"
    cluster.make_namespace(other)
    context, emit = cluster.context(), RecordingEmit()
    resource = {**CONFIG_MAPS, "selector": f"test={cluster.namespace}"}
    labels = {"test": cluster.namespace}
    async with following(context, emit, namespaceSelector="", resources=[resource]):
        cluster.put("one", labels=labels)
        cluster.put("two", namespace=other, labels=labels)
        await emit.wait_for(2)
    assert sorted(changes(emit.events)) == [("add", "one"), ("add", "two")]
    assert context.fields["namespaces"] == [""]


async def test_kubernetes_events(cluster: Cluster) -> None:
    """As KubernetesEventSource: the id is the uid of the Event, the source what it is about."""
    context, emit = cluster.context(), RecordingEmit()
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "started", "namespace": cluster.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "busybox",
            "namespace": cluster.namespace,
        },
        "reason": "Started",
        "message": "Started container",
        "type": "Normal",
        "count": 1,
    }
    resources = [{"apiVersion": "v1", "kind": "Event"}]
    async with following(context, emit, resources=resources, mode="KubernetesEvent"):
        cluster.apply(event)
        await emit.wait_for(1)
        cluster.apply({**event, "count": 2})
        await emit.wait_for(2)
    first, second = emit.events
    document = json.loads(first.data or b"")
    assert first.attributes["type"] == "dev.knative.k8s.event"
    assert first.attributes["id"] == document["metadata"]["uid"]
    source = f"/apis/v1/namespaces/{cluster.namespace}/pods/busybox"
    assert first.attributes["source"] == source
    assert first.attributes["time"] == document["metadata"]["creationTimestamp"]
    assert (document["kind"], document["reason"]) == ("Event", "Started")
    assert second.attributes["id"] != first.attributes["id"]
    assert json.loads(second.data or b"")["count"] == 2


async def test_what_may_not_be_read_is_named(cluster: Cluster) -> None:
    """With the rule that is needed; once it is granted, the source works."""
    context, emit = cluster.context(token=SOURCES_TOKEN), RecordingEmit()
    with pytest.raises(SourceFault) as caught:
        async with following(context, emit):
            pass
    assert caught.value.condition == "SufficientPermissions"
    message = str(caught.value)
    user = "system:serviceaccount:knative-eventing:headrace-sources"
    assert f'"{user}" cannot list resource "configmaps"' in message
    assert f"may not list or watch configmaps in namespace {cluster.namespace}" in message
    assert 'apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]' in message
    grant(cluster, "sources", kind="User", name=user)
    async with following(context, emit):
        cluster.put("one")
        await emit.wait_for(1)


def grant(cluster: Cluster, role: str, *, rules: Any = None, **subject: str) -> None:
    """Bind a Role with these rules, by default to read ConfigMaps, to a subject."""
    group = "rbac.authorization.k8s.io"
    readable = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
    metadata = {"name": role, "namespace": cluster.namespace}
    head = {"apiVersion": f"{group}/v1", "metadata": metadata}
    cluster.apply({**head, "kind": "Role", "rules": rules or [readable]})
    reference = {"apiGroup": group, "kind": "Role", "name": role}
    cluster.apply({**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]})


async def test_the_service_account_of_the_source_is_used(cluster: Cluster) -> None:
    """Where the sources service may request its token; the service itself may read nothing."""
    user = "system:serviceaccount:knative-eventing:headrace-sources"
    rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}
    grant(cluster, "tokens", rules=[rule], kind="User", name=user)
    context, emit = cluster.context(token=SOURCES_TOKEN), RecordingEmit()
    with pytest.raises(SourceFault, match=r"ServiceAccount .*/watcher does not exist; create it"):
        async with following(context, emit, serviceAccountName="watcher"):
            pass
    metadata = {"name": "watcher", "namespace": cluster.namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    with pytest.raises(SourceFault, match=f"system:serviceaccount:{cluster.namespace}:watcher"):
        async with following(context, emit, serviceAccountName="watcher"):
            pass
    subject = {"kind": "ServiceAccount", "name": "watcher", "namespace": cluster.namespace}
    grant(cluster, "watcher", **subject)
    async with following(context, emit, serviceAccountName="watcher"):
        cluster.put("one")
        await emit.wait_for(1)


async def test_a_kind_that_is_not_there_is_named(cluster: Cluster) -> None:
    """It is looked for again after a while: its CRD may be installed later."""
    for version in ("example.com/v1", "v1"):
        resource = {"apiVersion": version, "kind": "Unknown"}
        with pytest.raises(SourceFault, match=f"no kind Unknown in apiVersion {version}; install"):
            async with following(cluster.context(), RecordingEmit(), resources=[resource]):
                pass


async def test_no_api_server(cluster: Cluster) -> None:
    """The message says how the service gets one."""
    context = RecordingContext(namespace=cluster.namespace)
    with pytest.raises(SourceFault, match="start it with --kubeconfig"):
        async with following(context, RecordingEmit()):
            pass
