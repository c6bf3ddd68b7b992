"""Channels and Subscriptions over a real Kafka, with the resources in Kafka and in a Kubernetes API
server: what Knative's channel conformance suite asks for, and what a chain of channels promises.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.embedded_headrace import EmbeddedHeadrace
from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    Refused,
    condition,
    path_of,
    wait_for_events,
)
from tests.support.installations import installation
from tests.support.ledger import Numbered, numbered
from tests.support.manifests import (
    Manifest,
    broker,
    channel,
    delivery,
    reference_to,
    subscription,
    trigger,
)
from tests.support.nats_server import BINARY, UNPROVEN, NatsServer
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

NAMESPACE = "pipes"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("apache", "KafkaChannel"), marks=pytest.mark.kafka, id="apache"),
        pytest.param(("kubernetes", "KafkaChannel"), marks=pytest.mark.kafka, id="kubernetes"),
        pytest.param(("embedded", "KafkaChannel"), id="embedded"),
        pytest.param(("apache", "InMemoryChannel"), marks=pytest.mark.kafka, id="in-memory"),
        pytest.param(("embedded", "InMemoryChannel"), id="in-memory-in-up"),
        pytest.param(("apache", "NatsJetStreamChannel"), marks=pytest.mark.kafka, id="jetstream"),
        pytest.param(("embedded", "NatsJetStreamChannel"), id="jetstream-in-up"),
        pytest.param(
            ("kubernetes", "InMemoryChannel"), marks=pytest.mark.kafka, id="in-memory-kubernetes"
        ),
        pytest.param(
            ("kubernetes", "NatsJetStreamChannel"),
            marks=pytest.mark.kafka,
            id="jetstream-kubernetes",
        ),
    ],
)
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """One installation for all tests here, with one kind of channel; each test has channels of its
    own.
    """
    directory = tmp_path_factory.mktemp("channels")
    where, kind = request.param
    env = {}
    if kind == "NatsJetStreamChannel":
        # A server of its own: the streams of another installation are not taken over.
        if BINARY is None:
            pytest.skip(UNPROVEN)
        server = NatsServer(directory / "nats")
        request.addfinalizer(server.kill)
        server.start()
        env["HEADRACE_NATS_SERVERS"] = server.url
    in_memory = kind == "InMemoryChannel"
    with installation(where, request, directory, env=env, in_memory=in_memory) as started:
        started.use_channels(kind)
        yield started


def address(headrace: HeadraceUnderTest, name: str) -> str:
    """The path of the ingress at which a Channel accepts events."""
    return f"/{NAMESPACE}/{headrace.channel_kind.lower()}s/{name}"


def send(headrace: HeadraceUnderTest, name: str, count: int, *, writer: str = "w") -> None:
    """Send numbered events to a Channel."""
    for number in range(count):
        assert (
            headrace.send(numbered(headrace.seed, writer, number), address(headrace, name)) == 202
        )


def accepted(headrace: HeadraceUnderTest, sink: str) -> Counter[str]:
    """How often a sink accepted each event."""
    return Counter(
        each.event for each in headrace.sinks.arrivals() if each.sink == sink and each.accepted
    )


def events(count: int, *, writer: str = "w") -> Counter[str]:
    """Each of `count` events, once."""
    return Counter(f"{writer}.{number}" for number in range(count))


def url_of(headrace: HeadraceUnderTest, manifest: Manifest) -> str:
    """The address in its status."""
    return str((headrace.get(manifest) or {}).get("status", {}).get("address", {}).get("url"))


@pytest.mark.clause("C1", "S7", "E7")
def test_each_subscription_receives_every_event(headrace: HeadraceUnderTest) -> None:
    """Once, from the first event after Ready on; each by its own consumer group."""
    orders = channel(NAMESPACE, "fan-out")
    headrace.establish(orders)
    names = [f"fan-out-{number}" for number in range(3)]
    headrace.establish(*(subscription(orders, each, headrace.sinks.url(each)) for each in names))
    send(headrace, "fan-out", 20)
    for each in names:
        wait_for_events(headrace, each, 20)
        assert accepted(headrace, each) == events(20)
    late = subscription(orders, "fan-out-late", headrace.sinks.url("fan-out-late"))
    headrace.establish(late)
    send(headrace, "fan-out", 5, writer="late")
    wait_for_events(headrace, "fan-out-late", 5)
    assert accepted(headrace, "fan-out-late") == events(5, writer="late")


@pytest.mark.parametrize("version", ["0.3", "1.0"])
@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
@pytest.mark.clause("C1")
def test_both_modes_and_versions_are_accepted_and_delivered(
    headrace: HeadraceUnderTest, version: str, *, structured: bool
) -> None:
    """As Knative's channel conformance has it: 202, received once, in the version it was sent in,
    with `Knative-` headers.
    """
    name = f"modes-{'s' if structured else 'b'}{version[0]}"
    modes, sink = channel(NAMESPACE, name), name
    headrace.sinks.script(sink, Script(record=True))
    headrace.establish(modes)
    headrace.establish(subscription(modes, name, headrace.sinks.url(sink)))
    attributes = {"specversion": version, "id": name, "source": "/me", "type": "sent"}
    knative = {"Knative-Test": "carried"}
    if structured:
        body = json.dumps({**attributes, "data": {"a": 1}}).encode()
        headers = {"content-type": "application/cloudevents+json", **knative}
    else:
        body = b'{"a": 1}'
        binary = {f"ce-{key}": value for key, value in attributes.items()}
        headers = {"content-type": "application/json", **binary, **knative}
    assert headrace.post(address(headrace, name), headers, body) == 202
    wait_until(lambda: headrace.sinks.requests(sink), 15, "the event arrives")
    [request] = headrace.sinks.requests(sink)
    shown = {key: request.headers.get(f"ce-{key}") for key in attributes}
    assert (shown, json.loads(request.body)) == (attributes, {"a": 1})
    assert request.headers["knative-test"] == "carried"


def test_what_is_no_event_is_rejected(headrace: HeadraceUnderTest) -> None:
    """An unknown version is 400, another method than POST 405, an unknown channel 404: as Knative's
    channel conformance has it. Nothing of it is delivered.
    """
    strict = channel(NAMESPACE, "strict")
    headrace.establish(strict)
    headrace.establish(subscription(strict, "strict", headrace.sinks.url("strict")))
    right = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t"}
    path = address(headrace, "strict")
    assert headrace.post(path, {**right, "ce-specversion": "10.0"}) == 400
    assert headrace.post(path, right, method="PUT") == 405
    assert headrace.post(address(headrace, "nowhere"), right) == 404
    send(headrace, "strict", 1, writer="strict")
    wait_for_events(headrace, "strict", 1)
    assert accepted(headrace, "strict") == events(1, writer="strict")


@pytest.mark.clause("S5", "R3")
def test_replies_pass_from_channel_to_channel(headrace: HeadraceUnderTest) -> None:
    """A reply is appended to the next channel; without `reply` it is discarded; a Subscription
    with a reply only forwards.
    """
    first, second = channel(NAMESPACE, "first"), channel(NAMESPACE, "second")
    third = channel(NAMESPACE, "third", kind=headrace.channel_kind)
    for sink in ("step", "mute"):
        headrace.sinks.script(sink, Script(mode=Mode.REPLY, reply_type="answered"))
    headrace.establish(first, second, third)
    headrace.establish(
        subscription(first, "step", headrace.sinks.url("step"), reply=reference_to(second)),
        subscription(first, "mute", headrace.sinks.url("mute")),
        subscription(second, "forward", reply=reference_to(third)),
        subscription(third, "end", headrace.sinks.url("end")),
    )
    send(headrace, "first", 10)
    wait_for_events(headrace, "end", 10)
    assert set(accepted(headrace, "end").values()) == {1}
    wait_for_events(headrace, "mute", 10)


@pytest.mark.clause("headers")
def test_a_trace_passes_through_channels_and_replies(headrace: HeadraceUnderTest) -> None:
    """The trace context that is sent to a channel arrives at its subscriber, and continues in the
    reply, whether that is appended to a topic or posted to a URL.
    """
    traced, answers = channel(NAMESPACE, "traced"), channel(NAMESPACE, "traced-answers")
    for sink in ("traced-topic", "traced-url"):
        headrace.sinks.script(sink, Script(mode=Mode.REPLY, reply_type="answered", record=True))
    for sink in ("traced-end", "traced-outside"):
        headrace.sinks.script(sink, Script(record=True))
    outside = {"uri": headrace.sinks.url("traced-outside")}
    headrace.establish(traced, answers)
    headrace.establish(
        subscription(
            traced, "traced-topic", headrace.sinks.url("traced-topic"), reply=reference_to(answers)
        ),
        subscription(traced, "traced-url", headrace.sinks.url("traced-url"), reply=outside),
        subscription(answers, "traced-end", headrace.sinks.url("traced-end")),
    )
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "traced",
        "ce-source": "/me",
        "ce-type": "sent",
        "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
        "tracestate": "vendor=value",
    }
    assert headrace.post(address(headrace, "traced"), headers, b"{}") == 202
    for sink in ("traced-topic", "traced-url", "traced-end", "traced-outside"):
        wait_until(lambda sink=sink: headrace.sinks.requests(sink), 15, sink)  # type: ignore[misc]
        [request] = headrace.sinks.requests(sink)
        version, found, _, flags = request.headers["traceparent"].split("-")
        assert (version, found, flags) == ("00", trace_id, "01"), sink
        assert request.headers["tracestate"] == "vendor=value", sink
    assert headrace.sinks.requests("traced-end")[0].headers["ce-type"] == "answered"


@pytest.mark.parametrize("failures", [0, 1, 2])
@pytest.mark.clause("E9", "E10", "E11")
def test_a_reply_that_fails_is_retried_by_the_policy(
    headrace: HeadraceUnderTest, failures: int
) -> None:
    """Knative's channel suite: with one retry, a destination of replies that fails once gets the
    reply; one that fails twice does not, and the event is a dead letter.
    """
    name = f"flaky-{failures}"
    asked, letters = channel(NAMESPACE, name), f"{name}-letters"
    headrace.sinks.script(name, Script(mode=Mode.REPLY, reply_type="answered"))
    headrace.sinks.script(f"{name}-answers", Script(record=True, failures=failures))
    headrace.establish(asked)
    headrace.establish(
        subscription(
            asked,
            name,
            headrace.sinks.url(name),
            reply={"uri": headrace.sinks.url(f"{name}-answers")},
            delivery=delivery(retry=1, delay="PT0.05S", sink=headrace.sinks.url(letters)),
        )
    )
    send(headrace, name, 1)
    if failures < 2:
        wait_for_events(headrace, f"{name}-answers", 1)
        assert headrace.sinks.events(letters) == 0
    else:
        wait_for_events(headrace, letters, 1)
    assert len(headrace.sinks.requests(f"{name}-answers")) == min(failures, 1) + 1


def test_a_channel_is_a_destination_and_takes_others(headrace: HeadraceUnderTest) -> None:
    """A Trigger posts to a Channel, whose Subscription posts to a Broker."""
    bridge = channel(NAMESPACE, "bridge")
    target = broker(NAMESPACE, "bridged")
    headrace.establish(bridge, target, broker(NAMESPACE, "origin"))
    inward = trigger(NAMESPACE, "inward", "", broker="origin")
    inward["spec"]["subscriber"] = reference_to(bridge)
    outward = subscription(bridge, "outward", reply=reference_to(target))
    final = trigger(NAMESPACE, "final", headrace.sinks.url("bridged"), broker="bridged")
    headrace.establish(inward, outward, final)
    for number in range(5):
        event = numbered(headrace.seed, "bridge", number)
        assert headrace.send(event, f"/{NAMESPACE}/origin") == 202
    wait_for_events(headrace, "bridged", 5)
    assert accepted(headrace, "bridged") == events(5, writer="bridge")


@pytest.mark.clause("C2")
def test_dead_letters_go_to_the_subscriptions_sink_else_to_the_channels(
    headrace: HeadraceUnderTest,
) -> None:
    """After the retries of the Subscription's delivery block."""
    own, general = (headrace.sinks.url(f"dead-{name}") for name in ("own", "general"))
    failing = channel(
        NAMESPACE, "failing", spec={"delivery": delivery(retry=1, delay="PT0.1S", sink=general)}
    )
    headrace.sinks.script("broken", Script(status=503))
    headrace.establish(failing)
    headrace.establish(
        subscription(
            failing,
            "own",
            headrace.sinks.url("broken"),
            delivery=delivery(retry=2, delay="PT0.1S", sink=own),
        ),
        subscription(failing, "general", headrace.sinks.url("broken")),
    )
    shown = (headrace.get(failing) or {})["status"]
    assert (shown["deadLetterSinkUri"], len(shown["subscribers"])) == (general, 2)
    send(headrace, "failing", 4, writer="failing")
    wait_for_events(headrace, "dead-own", 4)
    wait_for_events(headrace, "dead-general", 4)
    attempts = Counter(each.event for each in headrace.sinks.arrivals() if each.sink == "broken")
    assert attempts == Counter({f"failing.{number}": 3 + 2 for number in range(4)})


def test_dead_letters_of_a_subscription_are_shown_by_its_name(headrace: HeadraceUnderTest) -> None:
    """`headrace dead-letters subscription/NAME`; the condition says so."""
    if isinstance(headrace, (HeadraceOnKubernetes, EmbeddedHeadrace)):
        pytest.skip("the command asks the controller's API, and an Apache Kafka, by their ports")
    headrace.sinks.script("lost", Script(status=400))
    losing = channel(NAMESPACE, "losing")
    lossy = subscription(losing, "lossy", headrace.sinks.url("lost"))
    headrace.establish(losing)
    headrace.establish(lossy)
    send(headrace, "losing", 1, writer="losing")
    command = ("dead-letters", "subscription/lossy", "-n", NAMESPACE)
    in_kafka = headrace.channel_kind == "KafkaChannel"
    advice = " ".join(command) if in_kafka else "set a dead letter sink to receive them"
    wait_until(
        lambda: (
            advice in condition(headrace.get(lossy) or {}, "DeliveryHealthy").get("message", "")
        ),
        20,
        "the condition says where to look",
    )
    process = headrace.processes.headrace(
        *command,
        "-o",
        "json",
        "--server",
        f"http://127.0.0.1:{headrace.api_port}",
        "--bootstrap-servers",
        headrace.log.bootstrap_servers,
        name="dead-letters",
    )
    if in_kafka:
        assert process.wait(20) == 0
        assert "losing.0" in process.output()
    else:
        assert process.wait(20) != 0
        assert "which this command cannot read; set a dead letter sink" in process.output()


@pytest.mark.clause("C3", "S2")
def test_what_is_immutable_is_rejected(headrace: HeadraceUnderTest) -> None:
    """The template of a Channel, the topic of a KafkaChannel, the channel of a Subscription; and a
    channel of another namespace.
    """
    fixed, plain = (
        channel(NAMESPACE, "fixed"),
        channel(NAMESPACE, "plain", kind=headrace.channel_kind),
    )
    one = subscription(fixed, "fixed", headrace.sinks.url("fixed"))
    headrace.establish(fixed, plain)
    headrace.establish(one)
    others = {"KafkaChannel", "InMemoryChannel"} - {headrace.channel_kind}
    template = {"apiVersion": "messaging.knative.dev/v1", "kind": min(others)}
    other = {"apiVersion": "messaging.knative.dev/v1", "kind": "Channel", "name": "other"}
    _refuses(headrace, fixed, {"channelTemplate": template})
    if headrace.channel_kind == "KafkaChannel":
        _refuses(headrace, plain, {"numPartitions": 5})
    _refuses(headrace, one, {"channel": other})
    elsewhere = subscription(fixed, "elsewhere", headrace.sinks.url("fixed"))
    elsewhere["spec"]["channel"]["namespace"] = "elsewhere"
    if isinstance(headrace, HeadraceOnKubernetes):
        # A CRD cannot know whether the feature is enabled: the controller refuses to act.
        headrace.apply(elsewhere)
        ready: Mapping[str, Any] = {}

        def judged() -> bool:
            nonlocal ready
            ready = condition(headrace.get(elsewhere) or {}, "Ready")
            return bool(ready)

        wait_until(judged, 15, "a condition")
        assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
        assert "must not set the field(s): spec.channel.namespace" in ready["message"]
        return
    with pytest.raises(Refused, match="must not set the field"):
        headrace.call("POST", path_of(elsewhere).rpartition("/")[0], elsewhere)


def _refuses(headrace: HeadraceUnderTest, manifest: Manifest, spec: Mapping[str, Any]) -> None:
    if isinstance(headrace, HeadraceOnKubernetes) and manifest["kind"] == "Channel":
        return  # Without the controller's API nothing compares the template.
    answers: list[str] = []

    def refused() -> bool:
        found = headrace.get(manifest)
        assert found is not None
        changed = {**found, "spec": {**found["spec"], **spec}}
        with pytest.raises(Refused) as error:
            headrace.call("PUT", path_of(manifest), changed)
        answers.append(str(error.value))
        # The controller may have written the status since the object was read.
        return error.value.status != 409

    wait_until(refused, 10, "an answer about the change itself")
    assert "Immutable fields changed" in answers[-1]


@pytest.mark.clause("S1", "S3", "S4")
def test_a_subscription_waits_for_its_channel(headrace: HeadraceUnderTest) -> None:
    """It says why it is not Ready, and its status shows the URLs that are resolved."""
    late = channel(NAMESPACE, "late")
    waiting = subscription(late, "waiting", headrace.sinks.url("waiting"))
    headrace.apply(waiting)
    wait_until(
        lambda: condition(headrace.get(waiting) or {}, "Ready").get("reason"), 15, "a reason"
    )
    found = headrace.get(waiting) or {}
    assert condition(found, "Ready")["reason"] == "ChannelReferenceFailed"
    assert found["status"]["physicalSubscription"] == {
        "subscriberUri": headrace.sinks.url("waiting")
    }
    headrace.establish(late)
    headrace.wait_ready(waiting)
    send(headrace, "late", 3, writer="waiting")
    wait_for_events(headrace, "waiting", 3)


@pytest.mark.clause("S6")
def test_a_subscription_changes_without_a_loss(headrace: HeadraceUnderTest) -> None:
    """Another subscriber gets what comes next, and nothing is delivered twice or not at all."""
    moving = channel(NAMESPACE, "moving")
    headrace.establish(moving)
    headrace.establish(subscription(moving, "moving", headrace.sinks.url("before")))
    send(headrace, "moving", 10, writer="one")
    wait_for_events(headrace, "before", 10)
    headrace.establish(subscription(moving, "moving", headrace.sinks.url("after")))
    send(headrace, "moving", 10, writer="two")
    wait_until(
        lambda: len(accepted(headrace, "before") | accepted(headrace, "after")) == 20,
        15,
        "all events",
    )
    both = accepted(headrace, "before") + accepted(headrace, "after")
    assert both == events(10, writer="one") + events(10, writer="two")


def test_a_deleted_channel_leaves_nothing(headrace: HeadraceUnderTest) -> None:
    """Topic, group and address are gone, and the Channel's own object with it."""
    gone = channel(NAMESPACE, "gone")
    last = subscription(gone, "last", headrace.sinks.url("last"))
    headrace.establish(gone)
    headrace.establish(last)
    send(headrace, "gone", 1)
    wait_for_events(headrace, "last", 1)
    headrace.delete(last)
    backing = channel(NAMESPACE, "gone", kind=headrace.channel_kind)
    headrace.delete(gone)
    if isinstance(headrace, HeadraceOnKubernetes):
        headrace.delete(backing)  # An API server alone collects no garbage.
    wait_until(lambda: headrace.get(backing) is None, 20, "the KafkaChannel is gone")
    assert headrace.post(address(headrace, "gone"), {"ce-specversion": "1.0"}) == 404


def test_an_event_for_a_host_reaches_its_channel(headrace: HeadraceUnderTest) -> None:
    """Where DNS resolves the name, the path says nothing."""
    named = channel(NAMESPACE, "named")
    headrace.establish(named)
    headrace.establish(subscription(named, "named", headrace.sinks.url("named")))
    event: Numbered = numbered(headrace.seed, "named", 0)
    headers = {
        "host": f"named-kn-channel.{NAMESPACE}.svc.cluster.local",
        "ce-specversion": "1.0",
        "content-type": "application/octet-stream",
        **{f"ce-{key}": value for key, value in event.attributes.items() if key != "oddity"},
    }
    assert headrace.post("/", headers, event.data) == 202
    wait_until(lambda: headrace.sinks.counts("named"), 15, "the event arrives")
    # Not a Service's name on Kubernetes either: the ingress of the test has a port of its own.
    assert url_of(headrace, named) == f"{headrace.channel_url}{address(headrace, 'named')}"
