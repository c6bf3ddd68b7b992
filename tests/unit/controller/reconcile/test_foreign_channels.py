"""Channels of kinds that another controller serves, by the channelable contract."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.errors import Permanent
from headrace.resources.control_ports import KIND_NOT_READ, KIND_NOT_SERVED
from headrace.resources.kinds import CHANNEL, SUBSCRIPTION
from headrace.resources.resource import Resource, kind_of_reference
from headrace_controller.reconcile.observed_state import Installation
from tests.unit.controller.harness import NAMESPACE, ControllerHarness, manifest

API_VERSION = "shop.example/v1"
PIPE = kind_of_reference(API_VERSION, "Pipe")
DEFINITION = kind_of_reference("apiextensions.k8s.io/v1", "CustomResourceDefinition")
TEMPLATE = {"apiVersion": API_VERSION, "kind": "Pipe", "spec": {"depth": 3}}
ADDRESS = {"url": "http://pipe.example/"}
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
FIND = MemoryResourceStore.find
NOT_MARKED = "SubscriptionNotMarkedReadyByChannel"


def definition(*, label: str = "true") -> Resource:
    """The CRD of Pipes."""
    labels = {"messaging.knative.dev/subscribable": label}
    metadata = {"name": "pipes.shop.example", "labels": labels}
    return Resource(
        DEFINITION,
        {"apiVersion": DEFINITION.api_version, "kind": DEFINITION.kind, "metadata": metadata},
    )


def pipe(name: str = "orders", **spec: Any) -> Resource:
    """A Pipe with a spec."""
    return manifest(PIPE, name, spec=spec)


def channel(**spec: Any) -> Resource:
    """A Channel that is backed by a Pipe."""
    return manifest(CHANNEL, "orders", spec={"channelTemplate": TEMPLATE, **spec})


def subscription(name: str = "billing", *, kind: str = "Pipe", **spec: Any) -> Resource:
    """A Subscription to it."""
    version = API_VERSION if kind == "Pipe" else CHANNEL.api_version
    named = {"apiVersion": version, "kind": kind, "name": "orders"}
    spec.setdefault("subscriber", {"uri": "http://sink.example/"})
    return manifest(SUBSCRIPTION, name, spec={"channel": named, **spec})


async def with_pipes(*resources: Resource, crd: Resource | None = None) -> ControllerHarness:
    """An installation that has Pipes, and these resources. Pipes are stored as their users write
    them, without the admission of a kind of this controller.
    """
    made = ControllerHarness()
    await made.restart()
    await made.store.create(crd or definition())
    for each in resources:
        await (made.store.create(each) if each.kind == PIPE else made.apply(each))
    await made.settle()
    return made


async def serve(
    harness: ControllerHarness, *, ready: str = TRUE, subscribers: str | None = TRUE
) -> None:
    """What the controller of Pipes does: an address, Ready, and `status.subscribers`."""
    found = harness.find(PIPE, "orders")
    assert found is not None
    entries = [
        {"uid": each["uid"], "observedGeneration": each.get("generation", 0), "ready": subscribers}
        for each in found.spec.get("subscribers", ())
        if subscribers is not None
    ]
    status = {
        "address": ADDRESS,
        "conditions": [{"type": "Ready", "status": ready}],
        "subscribers": entries,
    }
    await harness.store.replace_status(
        found.with_status(status).with_metadata(resourceVersion=None)
    )
    await harness.settle()


def subscribers(harness: ControllerHarness) -> list[Mapping[str, Any]]:
    """`spec.subscribers` of the Pipe."""
    found = harness.find(PIPE, "orders")
    assert found is not None
    return list(found.spec.get("subscribers", ()))


@pytest.mark.clause("C1")
async def test_a_channel_is_backed_by_the_kind_of_its_template() -> None:
    """The object has the Channel's name, its delivery, and the Channel for owner. What its
    controller shows is shown by the Channel.
    """
    harness = await with_pipes(channel(delivery={"retry": 3}))
    found = harness.find(PIPE, "orders")
    assert found is not None
    assert found.spec == {"depth": 3, "delivery": {"retry": 3}}
    assert [each["kind"] for each in found.metadata["ownerReferences"]] == ["Channel"]
    assert harness.condition(CHANNEL, "orders", "BackingChannelReady") == (
        UNKNOWN,
        "BackingChannelNotConfigured",
    )
    await serve(harness, ready=UNKNOWN)
    assert harness.condition(CHANNEL, "orders", "BackingChannelReady") == (UNKNOWN, "")
    await serve(harness)
    assert harness.condition(CHANNEL, "orders") == (TRUE, "")
    status = harness.status(CHANNEL, "orders")
    assert status["address"] == ADDRESS
    assert status["channel"] == {
        "apiVersion": API_VERSION,
        "kind": "Pipe",
        "name": "orders",
        "namespace": NAMESPACE,
    }


@pytest.mark.parametrize("kind", ["Pipe", "Channel"])
@pytest.mark.clause("S1", "S3", "S7")
async def test_a_subscription_is_ready_when_its_channel_says_so(kind: str) -> None:
    """It has an entry in `spec.subscribers`, and no group, topic or route in Kafka."""
    backing = channel() if kind == "Channel" else pipe()
    harness = await with_pipes(backing, subscription(kind=kind, reply={"uri": "http://r.example/"}))
    found = harness.find(SUBSCRIPTION, "billing")
    assert found is not None
    assert subscribers(harness) == [
        {
            "name": "billing",
            "uid": found.uid,
            "generation": 1,
            "subscriberUri": "http://sink.example/",
            "replyUri": "http://r.example/",
        }
    ]
    assert harness.condition(SUBSCRIPTION, "billing", "ChannelReady") == (
        UNKNOWN,
        "ChannelNotReady",
    )
    await serve(harness, subscribers=None)
    assert harness.condition(SUBSCRIPTION, "billing") == (UNKNOWN, NOT_MARKED)
    assert 'subscription "billing" not present in channel "orders"' in harness.message(
        SUBSCRIPTION, "billing", "Ready"
    )
    await serve(harness, subscribers=FALSE)
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, NOT_MARKED)
    await serve(harness)
    assert harness.condition(SUBSCRIPTION, "billing") == (TRUE, "")
    assert not [key for key in harness.routes() if found.uid in key]
    assert harness.status(SUBSCRIPTION, "billing")["physicalSubscription"] == {
        "subscriberUri": "http://sink.example/",
        "replyUri": "http://r.example/",
    }
    if kind == "Channel":
        assert len(harness.status(CHANNEL, "orders")["subscribers"]) == 1


async def test_delivery_is_passed_on_with_resolved_destinations() -> None:
    """The Subscription's own, else the channel's; a dead letter sink as the URL it resolves to."""
    sink = {"uri": "http://dead.example/"}
    harness = await with_pipes(
        pipe(delivery={"retry": 3, "deadLetterSink": sink}),
        subscription("own", delivery={"retry": 1, "backoffDelay": "PT1S"}),
        subscription("channels"),
    )
    found = {each["name"]: each["delivery"] for each in subscribers(harness)}
    assert found == {
        "own": {"retry": 1, "backoffDelay": "PT1S", "deadLetterSink": sink},
        "channels": {"retry": 3, "deadLetterSink": sink},
    }
    assert (
        harness.status(SUBSCRIPTION, "own")["physicalSubscription"]["deadLetterSinkUri"]
        == sink["uri"]
    )


@pytest.mark.clause("S6")
async def test_an_edit_changes_the_entry_and_deletion_removes_it() -> None:
    """Entries of other writers stay."""
    others = {"uid": "other", "subscriberUri": "http://other.example/"}
    harness = await with_pipes(pipe(subscribers=[others]), subscription(), subscription("audit"))
    await serve(harness)
    await harness.apply(subscription(subscriber={"uri": "http://new.example/"}))
    await harness.settle()
    names = [(each.get("name"), each["subscriberUri"]) for each in subscribers(harness)]
    assert names == [
        (None, "http://other.example/"),
        ("audit", "http://sink.example/"),
        ("billing", "http://new.example/"),
    ]
    assert harness.condition(SUBSCRIPTION, "billing") == (UNKNOWN, NOT_MARKED)
    await serve(harness)
    assert harness.condition(SUBSCRIPTION, "billing") == (TRUE, "")
    await harness.delete(SUBSCRIPTION, "billing")
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is None
    assert [each.get("name") for each in subscribers(harness)] == [None, "audit"]


async def test_an_unresolved_destination_leaves_the_entry_as_it_was() -> None:
    """Events go where they went before, and the condition names what is wrong."""
    harness = await with_pipes(pipe(), subscription())
    await serve(harness)
    nowhere = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "nowhere"}}
    await harness.apply(subscription(subscriber=nowhere))
    await harness.settle()
    assert [each["subscriberUri"] for each in subscribers(harness)] == ["http://sink.example/"]
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "SubscriberResolveFailed")


async def test_a_subscription_waits_for_the_object() -> None:
    """As for every other channel."""
    harness = await with_pipes(subscription())
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    assert 'Pipe "orders" not found' in harness.message(SUBSCRIPTION, "billing", "Ready")
    await harness.store.create(pipe())
    await harness.settle()
    assert len(subscribers(harness)) == 1


async def test_a_kind_without_the_label_is_left_alone() -> None:
    """Neither created nor written to."""
    crd = definition(label="false")
    harness = await with_pipes(channel(), pipe("other"), subscription(), crd=crd)
    assert harness.condition(CHANNEL, "orders") == (FALSE, "UnsupportedChannelKind")
    assert 'subscribable: "true"' in harness.message(CHANNEL, "orders", "Ready")
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    assert harness.find(PIPE, "orders") is None


async def test_a_write_that_fails_is_a_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the answer of the API server."""
    harness = await with_pipes(pipe())

    async def refuse(_store: MemoryResourceStore, resource: Resource) -> Resource:
        raise Permanent("pipes is forbidden")

    await harness.apply(subscription())
    await harness.run_once()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryResourceStore, "replace", refuse)
        for _ in range(3):
            await harness.run_once()
        added = harness.condition(SUBSCRIPTION, "billing", "AddedToChannel")
        assert added == (FALSE, "PhysicalChannelSyncFailed")
        assert "forbidden" in harness.message(SUBSCRIPTION, "billing", "AddedToChannel")
    await harness.resync()
    assert harness.condition(SUBSCRIPTION, "billing", "AddedToChannel") == (TRUE, "")


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        ("subscribers", (FALSE, "PhysicalChannelSyncFailed")),
        ("name", (TRUE, "FieldsNotKept")),
    ],
)
async def test_a_kind_that_does_not_keep_an_entry_is_named(
    dropped: str, expected: tuple[str, str]
) -> None:
    """Its schema drops the field: without the entry nothing is delivered, without its name all
    is. Nothing is written again and again.
    """
    harness = await with_pipes(pipe())

    def admit(wanted: Resource, _old: Resource | None) -> Resource:
        spec = {key: value for key, value in wanted.spec.items() if key != dropped}
        if "subscribers" in spec:
            spec["subscribers"] = [
                {key: value for key, value in each.items() if key != dropped}
                for each in spec["subscribers"]
            ]
        return Resource(wanted.kind, {**wanted.object, "spec": spec})

    harness.loop.executor._admit = admit
    await harness.apply(subscription())
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing", "AddedToChannel") == expected
    message = harness.message(SUBSCRIPTION, "billing", "AddedToChannel")
    assert "Pipe of shop.example/v1 does not keep" in message
    assert (await harness.run_once()).steps == ()


async def test_a_definition_that_is_gone_holds_up_no_deletion() -> None:
    """Neither the Channel nor the Subscription, whose finalizer is removed."""
    harness = await with_pipes(pipe(), subscription())
    await harness.store.delete(DEFINITION, "", "pipes.shop.example")
    await harness.store.delete(PIPE, NAMESPACE, "orders")
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    await harness.delete(SUBSCRIPTION, "billing")
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is None


@pytest.mark.parametrize("kind", ["Pipe", "Channel"])
async def test_in_a_cluster_what_cannot_be_read_is_neither_there_nor_gone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a kind is read for the first time nothing changes, as after a start of the controller.
    A missing role is named. Only a kind that is not served at all holds up no deletion.
    """
    backing = pipe() if kind == "Pipe" else channel()
    harness = await with_pipes(backing, subscription(kind=kind))
    await serve(harness)
    assert harness.condition(SUBSCRIPTION, "billing") == (TRUE, "")
    harness.installation = Installation(in_cluster=True)
    problem = KIND_NOT_READ

    def unreadable(
        _store: object, kinds: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], str]:
        assert (DEFINITION.api_version, DEFINITION.kind) not in kinds
        return {each: problem for each in kinds if each == (API_VERSION, "Pipe")}

    monkeypatch.setattr(MemoryResourceStore, "track_kinds", unreadable)
    monkeypatch.setattr(
        MemoryResourceStore,
        "find",
        lambda store, wanted: None if wanted.kind == "Pipe" else FIND(store, wanted),
    )
    await harness.restart()
    before = harness.picture()
    await harness.settle()
    assert harness.picture()["resources"] == before["resources"]
    problem = "pipes is forbidden"
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing") == (FALSE, "ChannelReferenceFailed")
    assert problem in harness.message(SUBSCRIPTION, "billing", "Ready")
    if kind == "Channel":
        assert harness.condition(CHANNEL, "orders") == (FALSE, "ChannelFailure")
        assert harness.status(CHANNEL, "orders")["address"] == ADDRESS
    await harness.delete(SUBSCRIPTION, "billing")
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is not None
    problem = KIND_NOT_SERVED
    await harness.settle()
    assert harness.find(SUBSCRIPTION, "billing") is None


@pytest.mark.parametrize("odd", ["x", 5, [], [5], {"uid": 5}, [{"uid": []}]])
async def test_objects_of_any_shape_are_survived(odd: Any) -> None:
    """Nobody has validated them here."""
    harness = await with_pipes(
        pipe(subscribers=odd, delivery={"deadLetterSink": odd}), subscription()
    )
    found = harness.find(PIPE, "orders")
    assert found is not None
    await harness.store.replace_status(found.with_status({"subscribers": odd, "conditions": odd}))
    await harness.settle()
    assert harness.condition(SUBSCRIPTION, "billing", "AddedToChannel") == (TRUE, "")
    assert harness.condition(SUBSCRIPTION, "billing") == (UNKNOWN, "ChannelNotReady")


async def test_a_settled_installation_writes_nothing() -> None:
    """Also after a restart."""
    harness = await with_pipes(channel(), subscription(kind="Channel"), subscription("audit"))
    await serve(harness)
    assert await harness.resync() == []
    await harness.restart()
    await harness.settle()
    assert await harness.resync() == []
