"""Sequences and Parallels: what each situation shows, what it creates, and in which order a change
of a live flow is made.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from headrace.domain.routing import Addressable, Reply, Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace.resources.kinds import (
    CONFIG_MAP,
    KAFKA_CHANNEL,
    PARALLEL,
    SEQUENCE,
    SUBSCRIPTION,
)
from headrace.resources.resource import Resource, ResourceKind
from headrace_controller.reconcile.plan import PutRoute
from tests.unit.controller.harness import ControllerHarness, config_map, manifest, settled

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
LAST = {"uri": "http://last.example/"}


def step(name: str, **fields: Any) -> dict[str, Any]:
    """A destination by its URL."""
    return {"uri": f"http://{name}.example/", **fields}


def sequence(*steps: Mapping[str, Any], name: str = "line", **spec: Any) -> Resource:
    """A Sequence."""
    return manifest(SEQUENCE, name, spec={"steps": list(steps), **spec})


def parallel(*branches: Mapping[str, Any], name: str = "fan", **spec: Any) -> Resource:
    """A Parallel."""
    return manifest(PARALLEL, name, spec={"branches": list(branches), **spec})


def branch(name: str, *, filtered: bool = True, **fields: Any) -> dict[str, Any]:
    """A branch, with or without a filter."""
    own = {"filter": step(f"filter-{name}")} if filtered else {}
    return {**own, "subscriber": step(name), **fields}


def names(harness: ControllerHarness, kind: ResourceKind) -> list[str]:
    """The names of all objects of a kind."""
    return [each.name for each in harness.store.list(kind)]


def child(index: int) -> str:
    """The channel and the Subscription of a step."""
    return f"line-kn-sequence-{index}"


def spec_of(harness: ControllerHarness, name: str) -> Mapping[str, Any]:
    """The spec of a Subscription."""
    found = harness.find(SUBSCRIPTION, name)
    assert found is not None, name
    return found.spec


def path_of(harness: ControllerHarness, name: str) -> tuple[str, str]:
    """Where a Subscription's events go, and its replies: host, and host or channel."""
    spec = spec_of(harness, name)
    reply = spec.get("reply", {})
    target = reply["ref"]["name"] if "ref" in reply else reply.get("uri", "")
    return spec["subscriber"]["uri"].split("/")[2].partition(".")[0], target


def routes(harness: ControllerHarness) -> dict[str, Subscription]:
    """The routing records of subscriptions by name."""
    return {each.name: each for each in harness.routes().values() if isinstance(each, Subscription)}


def put_events(harness: ControllerHarness, name: str, count: int) -> str:
    """Add events to the channel of a Subscription; its group."""
    route = routes(harness)[name]
    harness.admin.ends_of[route.topic][0] += count
    return route.group


def deliver(harness: ControllerHarness, group: str, topic: str) -> None:
    """Let the dispatcher have done what is in a topic."""
    harness.group(group).offsets.setdefault(topic, {}).update(harness.admin.ends_of[topic])


async def wait_two_looks(harness: ControllerHarness) -> None:
    """Let the controller look at backlogs twice, and act."""
    for _ in range(4):
        harness.clock.advance(1.1)
        await harness.report()
        await harness.settle()


@pytest.mark.clause("flows 1")
async def test_a_sequence_has_a_channel_and_a_subscription_for_each_step() -> None:
    """Of the template's own kind, named and owned as Knative's; the status lists them, and the
    address is the first channel's.
    """
    retries = {"retry": 3}
    harness = await settled(
        sequence(
            step("a", delivery=retries),
            step("b"),
            reply=LAST,
            channelTemplate={
                "apiVersion": "messaging.knative.dev/v1",
                "kind": "KafkaChannel",
                "spec": {"numPartitions": 3},
            },
        )
    )
    children = [child(0), child(1)]
    assert names(harness, KAFKA_CHANNEL) == names(harness, SUBSCRIPTION) == children
    for kind in (KAFKA_CHANNEL, SUBSCRIPTION):
        for name in children:
            found = harness.find(kind, name)
            assert found is not None
            (owner,) = found.metadata["ownerReferences"]
            assert ("Sequence", "line", True) == (owner["kind"], owner["name"], owner["controller"])
    channel = harness.find(KAFKA_CHANNEL, child(0))
    assert channel is not None and channel.spec["numPartitions"] == 3
    assert [("a", child(1)), ("b", LAST["uri"])] == [path_of(harness, name) for name in children]
    assert spec_of(harness, child(0))["delivery"] == retries
    assert "delivery" not in spec_of(harness, child(1))
    status = harness.status(SEQUENCE, "line")
    assert status["address"] == channel.status["address"]
    for field, key in (("channelStatuses", "channel"), ("subscriptionStatuses", "subscription")):
        assert children == [each[key]["name"] for each in status[field]]
        assert {TRUE} == {each["ready"]["status"] for each in status[field]}
    assert [
        "Addressable",
        "ChannelsReady",
        "EventPoliciesReady",
        "Ready",
        "SubscriptionsReady",
    ] == [each["type"] for each in status["conditions"] if each["status"] == TRUE]
    topic = next(
        each.topic
        for each in harness.routes().values()
        if isinstance(each, Addressable) and each.name == child(1)
    )
    assert routes(harness)[child(0)].reply == Reply(topic=topic)


@pytest.mark.clause("flows 1")
async def test_a_parallel_has_a_channel_before_and_one_behind_each_filter() -> None:
    """Without a filter every event passes; the reply is the branch's, else the Parallel's."""
    mine = step("mine")
    harness = await settled(
        parallel(
            branch("x", delivery={"retry": 1}), branch("y", filtered=False, reply=mine), reply=LAST
        )
    )
    ingress, first, second = "fan-kn-parallel", "fan-kn-parallel-0", "fan-kn-parallel-1"
    assert [ingress, first, second] == names(harness, KAFKA_CHANNEL)
    filters = ["fan-kn-parallel-filter-0", "fan-kn-parallel-filter-1"]
    assert [first, second, *filters] == names(harness, SUBSCRIPTION)
    assert ("filter-x", first) == path_of(harness, filters[0])
    passing = spec_of(harness, filters[1])
    assert (second, None) == (passing["subscriber"]["ref"]["name"], passing.get("reply"))
    assert [("x", LAST["uri"]), ("y", mine["uri"])] == [
        path_of(harness, name) for name in (first, second)
    ]
    assert spec_of(harness, first)["delivery"] == {"retry": 1}
    status = harness.status(PARALLEL, "fan")
    assert (TRUE, "") == harness.condition(PARALLEL, "fan")
    assert status["ingressChannelStatus"]["channel"]["name"] == ingress
    assert status["address"] == harness.status(KAFKA_CHANNEL, ingress)["address"]
    entry = status["branchStatuses"][1]
    assert [filters[1], second, second] == [
        entry["filterSubscriptionStatus"]["subscription"]["name"],
        entry["filterChannelStatus"]["channel"]["name"],
        entry["subscriberSubscriptionStatus"]["subscription"]["name"],
    ]


async def test_a_converged_flow_is_left_alone() -> None:
    """A controller that knows nothing writes the routing records again, and nothing else."""
    harness = await settled(sequence(step("a"), step("b")), parallel(branch("x")))
    assert [] == await harness.resync()
    await harness.restart()
    assert {PutRoute} == {type(each) for each in await harness.settle()}


@pytest.mark.clause("flows 4")
async def test_the_address_is_shown_when_every_channel_is_read() -> None:
    """What a step of another flow posts to the address must not be skipped. A subscriber that
    cannot be resolved is no reason: the events wait for it.
    """
    harness = ControllerHarness()
    await harness.restart()
    unknown = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "none"}}
    await harness.apply(sequence(step("a"), unknown))
    while "address" not in harness.status(SEQUENCE, "line"):
        sources = [each.source for each in harness.loop.observer._ownership_records().values()]
        plan = await harness.run_once()
        assert plan.steps, f"no address, with {sources}"
    records = harness.loop.observer._ownership_records()
    for index in (0, 1):
        found = harness.find(SUBSCRIPTION, child(index))
        assert found is not None and records[found.uid].source
    await harness.settle()
    assert (FALSE, "SubscriptionsNotReady") == harness.condition(SEQUENCE, "line")
    message = harness.message(SEQUENCE, "line", "Ready")
    assert child(1) in message and 'services "none" not found' in message


async def test_a_flow_may_reply_to_itself_and_to_another_that_replies_to_it() -> None:
    """Neither waits for the other without end."""

    def to(name: str) -> dict[str, Any]:
        return {"ref": {"apiVersion": "flows.knative.dev/v1", "kind": "Sequence", "name": name}}

    harness = await settled(
        sequence(step("a"), name="self", reply=to("self")),
        sequence(step("a"), to("self"), name="one", reply=to("two")),
        sequence(step("a"), name="two", reply=to("one")),
    )
    for name in ("self", "one", "two"):
        assert (TRUE, "") == harness.condition(SEQUENCE, name)
    route = routes(harness)["self-kn-sequence-0"]
    assert route.reply == Reply(topic=route.topic)


async def test_a_flow_is_never_false_while_it_is_created() -> None:
    """A client that waits for it must not conclude that it has failed."""
    harness = ControllerHarness()
    await harness.restart()
    await harness.apply(sequence(step("a"), step("b")), parallel(branch("x")))
    for _ in range(40):
        plan = await harness.run_once()
        for kind, name in ((SEQUENCE, "line"), (PARALLEL, "fan")):
            status, _reason = harness.condition(kind, name)
            assert status != FALSE, harness.message(kind, name, "Ready")
        if not plan.steps:
            break
    assert (TRUE, "") == harness.condition(SEQUENCE, "line") == harness.condition(PARALLEL, "fan")


@pytest.mark.clause("flows 4")
async def test_the_template_is_the_namespaces_default_and_stays() -> None:
    """A changed default is for flows and steps that come later: what is in the present channels
    must not be left behind.
    """

    def defaults(partitions: int, kind: str = "KafkaChannel") -> Resource:
        text = (
            f"clusterDefault: {{apiVersion: messaging.knative.dev/v1, kind: {kind},"
            f" spec: {{numPartitions: {partitions}}}}}"
        )
        data = {"default-ch-config": text}
        return config_map("default-ch-webhook", data, namespace="knative-eventing")

    harness = await settled(defaults(3))
    # As in a cluster, where admission sets no defaults.
    await harness.store.create(sequence(step("a")))
    await harness.settle()
    found = harness.find(SEQUENCE, "line")
    assert found is not None
    assert "channelTemplate" not in found.spec
    await harness.apply(defaults(5))
    longer = sequence(step("a"), step("b")).spec
    await harness.store.replace(Resource(SEQUENCE, {**found.object, "spec": longer}))
    await harness.settle()
    partitions = [
        found.spec["numPartitions"]
        for index in (0, 1)
        if (found := harness.find(KAFKA_CHANNEL, child(index)))
    ]
    assert [3, 5] == partitions
    assert (TRUE, "") == harness.condition(SEQUENCE, "line")
    await harness.apply(defaults(5, kind="OtherChannel"))
    await harness.settle()
    assert (TRUE, "") == harness.condition(SEQUENCE, "line")
    assert harness.find(CONFIG_MAP, "default-ch-webhook", "knative-eventing")


async def test_a_template_of_a_kind_that_is_not_served_says_so() -> None:
    """Nothing is created."""
    template = {"apiVersion": "messaging.example/v1", "kind": "Pipe"}
    harness = await settled(sequence(step("a"), channelTemplate=template))
    assert (FALSE, "UnsupportedChannelKind") == harness.condition(SEQUENCE, "line")
    assert "Pipe in messaging.example/v1" in harness.message(SEQUENCE, "line", "Ready")
    assert [] == names(harness, KAFKA_CHANNEL) == names(harness, SUBSCRIPTION)


async def test_an_object_of_another_owner_is_left_alone() -> None:
    """The Sequence says which one is in the way."""
    harness = await settled(
        manifest(KAFKA_CHANNEL, child(0), spec={}), sequence(step("a"), step("b"))
    )
    assert (FALSE, "ChannelsNotReady") == harness.condition(SEQUENCE, "line")
    message = harness.message(SEQUENCE, "line", "Ready")
    assert f'KafkaChannel "{child(0)}" exists and belongs to another owner' in message


async def test_a_changed_child_is_set_right_again() -> None:
    """The flow is the owner of what its Subscriptions say."""
    harness = await settled(sequence(step("a")))
    found = harness.find(SUBSCRIPTION, child(0))
    assert found is not None
    other = {**found.spec, "subscriber": {"uri": "http://other.example/"}}
    await harness.store.replace(Resource(SUBSCRIPTION, {**found.object, "spec": other}))
    await harness.settle()
    assert ("a", "") == path_of(harness, child(0))


@pytest.mark.clause("flows 5")
async def test_a_step_is_added_before_events_are_passed_to_it() -> None:
    """The Subscription in front changes when the new one has its position, not before."""
    harness = await settled(sequence(step("a"), reply=LAST))
    await harness.apply(sequence(step("a"), step("b"), reply=LAST))
    for _ in range(40):
        plan = await harness.run_once()
        new = harness.find(SUBSCRIPTION, child(1))
        record = harness.loop.observer._ownership_records().get(new.uid) if new else None
        if path_of(harness, child(0)) == ("a", child(1)):
            assert record is not None and record.source
        elif not plan.steps:
            pytest.fail("the first Subscription did not change")
        if not plan.steps:
            break
        assert (TRUE, "") != harness.condition(SEQUENCE, "line") or path_of(harness, child(0)) == (
            "a",
            child(1),
        )
    assert ("b", LAST["uri"]) == path_of(harness, child(1))
    assert (TRUE, "") == harness.condition(SEQUENCE, "line")


@pytest.mark.clause("flows 5")
async def test_a_branch_is_added_before_events_are_passed_to_it() -> None:
    """Its filter starts when the channel behind it is read."""
    harness = await settled(parallel(branch("x")))
    await harness.apply(parallel(branch("x"), branch("y")))
    while not harness.find(SUBSCRIPTION, "fan-kn-parallel-filter-1"):
        assert (await harness.run_once()).steps
    behind = harness.find(SUBSCRIPTION, "fan-kn-parallel-1")
    assert behind is not None
    assert harness.loop.observer._ownership_records()[behind.uid].source
    await harness.settle()
    assert (TRUE, "") == harness.condition(PARALLEL, "fan")


@pytest.mark.clause("flows 5")
async def test_a_removed_step_stays_until_its_events_are_delivered() -> None:
    """The flow is Ready without it; `Drained` says what is left, and vanishes with it."""
    harness = await settled(sequence(step("a"), step("b"), step("c"), reply=LAST))
    group = put_events(harness, child(2), 5)
    topic = routes(harness)[child(2)].topic
    await harness.apply(sequence(step("a"), step("c"), reply=LAST))
    await harness.settle()
    await wait_two_looks(harness)
    assert ("c", LAST["uri"]) == path_of(harness, child(1)) == path_of(harness, child(2))
    assert (TRUE, "") == harness.condition(SEQUENCE, "line")
    assert (FALSE, "BeingRemoved") == harness.condition(SEQUENCE, "line", "Drained")
    message = harness.message(SEQUENCE, "line", "Drained")
    assert f"Subscription {child(2)} stays until its events are delivered: 5 events" in message
    assert 2 == len(harness.status(SEQUENCE, "line")["channelStatuses"])
    deliver(harness, group, topic)
    await wait_two_looks(harness)
    assert [child(0), child(1)] == names(harness, SUBSCRIPTION) == names(harness, KAFKA_CHANNEL)
    assert ("", "") == harness.condition(SEQUENCE, "line", "Drained")
    assert topic not in harness.admin.topics


@pytest.mark.clause("flows 5")
async def test_events_that_wait_for_a_retry_are_waited_for() -> None:
    """In the retry topic; and while any wait in a delay topic, for as long as the policy allows one
    to wait: it may be of this step.
    """
    harness = await settled(sequence(step("a"), step("b")))
    route = routes(harness)[child(1)]
    harness.admin.ends_of[route.retry_topic][0] = 2
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await wait_two_looks(harness)
    assert "2 events" in harness.message(SEQUENCE, "line", "Drained")
    deliver(harness, route.retry_topic, route.retry_topic)
    harness.admin.ends_of["headrace.delay.1m"][1] = 1
    await wait_two_looks(harness)
    assert "waiting for a retry" in harness.message(SEQUENCE, "line", "Drained")
    for _ in range(20):
        harness.clock.advance(31.0)
        await harness.report()
        await harness.settle()
    harness.admin.ends_of[route.retry_topic][0] = 3
    deliver(harness, route.retry_topic, route.retry_topic)
    await wait_two_looks(harness)
    assert child(1) in names(harness, SUBSCRIPTION), "one came out of the delay: it starts again"
    for _ in range(25):
        harness.clock.advance(31.0)
        await harness.report()
        await harness.settle()
    assert [child(0)] == names(harness, SUBSCRIPTION)


async def test_a_topic_that_is_not_seen_is_not_an_empty_one() -> None:
    """Nothing is removed for the lack of an answer."""
    harness = await settled(sequence(step("a"), step("b")))
    facts = harness.admin.topics.pop(routes(harness)[child(1)].retry_topic)
    await harness.resync()
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await wait_two_looks(harness)
    assert "it is not known yet" in harness.message(SEQUENCE, "line", "Drained")
    assert child(1) in names(harness, SUBSCRIPTION)
    harness.admin.topics[facts.name] = facts
    await harness.resync()
    await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION)


async def test_replies_to_earlier_requests_are_waited_for() -> None:
    """They still go to the channel of the step that was removed."""
    harness = await settled(sequence(step("a"), step("b")))
    front = harness.find(SUBSCRIPTION, child(0))
    assert front is not None
    harness.groups = {front.uid: SubscriptionState(changing=True).write()}
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await wait_two_looks(harness)
    assert "are in effect" in harness.message(SEQUENCE, "line", "Drained")
    assert child(1) in names(harness, SUBSCRIPTION)
    harness.groups = {}
    await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION)


async def test_nothing_is_removed_while_a_process_has_not_seen_the_change() -> None:
    """It would still write to the removed channel."""
    harness = await settled(sequence(step("a"), step("b")))
    harness.applies = False
    await harness.apply(sequence(step("a")))
    for _ in range(10):
        harness.clock.advance(1.1)
        await harness.run_once()
    assert [child(0), child(1)] == names(harness, SUBSCRIPTION)
    harness.applies = True
    await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION)


async def test_removed_steps_go_one_after_the_other() -> None:
    """The first one's events still pass the others."""
    harness = await settled(sequence(*(step(name) for name in "abcd")))
    group = put_events(harness, child(1), 1)
    topic = routes(harness)[child(1)].topic
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await wait_two_looks(harness)
    assert [child(index) for index in range(4)] == names(harness, SUBSCRIPTION)
    deliver(harness, group, topic)
    for _ in range(4):
        await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION) == names(harness, KAFKA_CHANNEL)


@pytest.mark.clause("flows 5")
async def test_a_removed_branch_delivers_what_it_had() -> None:
    """What is sent to the Parallel after the change is not waited for: the first channel is
    written without a pause.
    """
    harness = await settled(parallel(branch("x"), branch("y")))
    name = "fan-kn-parallel-filter-0"
    group = put_events(harness, name, 3)
    topic = routes(harness)[name].topic
    deliver(harness, routes(harness)["fan-kn-parallel-filter-1"].group, topic)
    await harness.apply(parallel(branch("y")))
    await harness.settle()
    await wait_two_looks(harness)
    assert "3 events" in harness.message(PARALLEL, "fan", "Drained")
    deliver(harness, group, topic)
    put_events(harness, name, 100)
    await wait_two_looks(harness)
    assert name not in names(harness, SUBSCRIPTION)
    await wait_two_looks(harness)
    assert ["fan-kn-parallel", "fan-kn-parallel-1"] == names(harness, KAFKA_CHANNEL)
    assert ("y", "") == path_of(harness, "fan-kn-parallel-1")


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ("yx", {"x": 0, "y": 1}),
        ("ayx", {"x": 0, "y": 1, "a": 2}),
        ("ya", {"y": 1, "a": 2}),
        ("xa", {"x": 0, "a": 1}),
        ("axb", {"x": 0, "a": 2, "b": 3}),
        ("xxy", {"x": 2, "y": 1}),
    ],
)
async def test_a_branch_keeps_its_number(branches: str, expected: Mapping[str, int]) -> None:
    """Wherever it stands; one that took the place of another is that one, changed. Every number is
    kept when nothing changes, and after a restart.
    """
    harness = await settled(parallel(branch("x"), branch("y")))
    before = {each.name: each.uid for each in harness.store.list(SUBSCRIPTION)}
    for name in ("fan-kn-parallel-filter-0", "fan-kn-parallel-filter-1"):
        put_events(harness, name, 1)
    await harness.apply(parallel(*(branch(each) for each in branches)))
    for _ in range(2):
        await harness.settle()
        for each, number in expected.items():
            name = f"fan-kn-parallel-{number}"
            filtered = f"fan-kn-parallel-filter-{number}"
            assert each == path_of(harness, name)[0]
            assert (f"filter-{each}", name) == path_of(harness, filtered)
        after = {each.name: each.uid for each in harness.store.list(SUBSCRIPTION)}
        assert before.items() <= after.items()
        shown = harness.status(PARALLEL, "fan")["branchStatuses"]
        assert branches == "".join(
            path_of(harness, each["subscriberSubscriptionStatus"]["subscription"]["name"])[0]
            for each in shown
        )
        await harness.restart()


async def test_a_step_that_comes_back_takes_over_what_is_left() -> None:
    """Its Subscription was still there."""
    harness = await settled(sequence(step("a"), step("b")))
    put_events(harness, child(1), 5)
    before = harness.find(SUBSCRIPTION, child(1))
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await harness.apply(sequence(step("a"), step("c")))
    await harness.settle()
    after = harness.find(SUBSCRIPTION, child(1))
    assert before is not None and after is not None and before.uid == after.uid
    assert ("c", "") == path_of(harness, child(1))
    assert ("", "") == harness.condition(SEQUENCE, "line", "Drained")


async def test_what_is_left_is_given_up_by_deleting_its_subscription() -> None:
    """By hand: it is not created again, and its channel follows."""
    harness = await settled(sequence(step("a"), step("b")))
    put_events(harness, child(1), 5)
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await harness.delete(SUBSCRIPTION, child(1))
    await harness.settle()
    await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION) == names(harness, KAFKA_CHANNEL)


async def test_a_wanted_child_that_is_deleted_comes_back() -> None:
    """The flow says so meanwhile."""
    harness = await settled(sequence(step("a"), step("b")))
    for kind in (SUBSCRIPTION, KAFKA_CHANNEL):
        await harness.delete(kind, child(1))
    await harness.settle()
    assert [child(0), child(1)] == names(harness, SUBSCRIPTION) == names(harness, KAFKA_CHANNEL)
    assert (TRUE, "") == harness.condition(SEQUENCE, "line")


async def test_an_invalid_flow_is_left_as_it_was() -> None:
    """Where admission is another API server's, the status has the message."""
    harness = await settled(sequence(step("a"), step("b")))
    found = harness.find(SEQUENCE, "line")
    assert found is not None
    steps: Sequence[Any] = [{"uri": "nonsense"}]
    await harness.store.replace(Resource(SEQUENCE, {**found.object, "spec": {"steps": steps}}))
    await harness.settle()
    assert (FALSE, "InvalidSpec") == harness.condition(SEQUENCE, "line")
    assert "spec.steps[0]" in harness.message(SEQUENCE, "line", "Ready")
    assert [child(0), child(1)] == names(harness, SUBSCRIPTION)
    assert "address" in harness.status(SEQUENCE, "line")


async def test_a_controller_that_is_replaced_waits_again() -> None:
    """What it has seen of a backlog is not stored; a second look is needed again."""
    harness = await settled(sequence(step("a"), step("b")))
    await harness.apply(sequence(step("a")))
    await harness.settle()
    await harness.restart()
    await harness.settle()
    assert child(1) in names(harness, SUBSCRIPTION)
    await wait_two_looks(harness)
    assert [child(0)] == names(harness, SUBSCRIPTION)
