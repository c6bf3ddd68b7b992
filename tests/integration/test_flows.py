"""Sequences and Parallels over a real Kafka, with the resources in Kafka and in a Kubernetes API
server: what passes where, and that a change of a live flow loses nothing.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.embedded_headrace import EmbeddedHeadrace
from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    condition,
    stays_true,
    wait_for_events,
)
from tests.support.ledger import numbered
from tests.support.manifests import (
    Manifest,
    broker,
    channel,
    delivery,
    flow,
    reference_to,
    subscription,
    trigger,
)
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

NAMESPACE = "flows"
pytestmark = pytest.mark.timeout(180)


def sequence(name: str, *steps: Mapping[str, Any], **spec: Any) -> Manifest:
    """A Sequence."""
    return flow(NAMESPACE, name, "Sequence", steps, **spec)


def parallel(name: str, *branches: Mapping[str, Any], **spec: Any) -> Manifest:
    """A Parallel."""
    return flow(NAMESPACE, name, "Parallel", branches, **spec)


def step(headrace: HeadraceUnderTest, sink: str, **fields: Any) -> Manifest:
    """A destination that answers with an event."""
    headrace.sinks.script(sink, Script(mode=Mode.REPLY))
    return {"uri": headrace.sinks.url(sink), **fields}


def end(headrace: HeadraceUnderTest, sink: str) -> Manifest:
    """A destination that answers without an event."""
    return {"uri": headrace.sinks.url(sink)}


def address(manifest: Manifest) -> str:
    """The path of the ingress at which a flow accepts events."""
    first = {"Sequence": "kn-sequence-0", "Parallel": "kn-parallel"}[manifest["kind"]]
    return f"/{NAMESPACE}/kafkachannels/{manifest['metadata']['name']}-{first}"


def send(headrace: HeadraceUnderTest, to: Manifest, count: int, *, writer: str) -> None:
    """Send numbered events to a flow."""
    for number in range(count):
        assert headrace.send(numbered(headrace.seed, writer, number), address(to)) == 202


def accepted(headrace: HeadraceUnderTest, sink: str) -> Counter[str]:
    """How often a sink accepted each event; one that was answered has a prefix for each answer."""
    return Counter(
        each.event.replace("r:", "")
        for each in headrace.sinks.arrivals()
        if each.sink == sink and each.accepted
    )


def events(count: int, *, writer: str) -> Counter[str]:
    """Each of `count` events, once."""
    return Counter(f"{writer}.{number}" for number in range(count))


def names_of(headrace: HeadraceUnderTest, kind: str, prefix: str) -> list[str]:
    """The names of the objects of a kind that begin like this."""
    version = "v1beta1" if kind == "kafkachannels" else "v1"
    path = f"/apis/messaging.knative.dev/{version}/namespaces/{NAMESPACE}/{kind}"
    found = headrace.call("GET", path)["items"]
    return [name for each in found if (name := each["metadata"]["name"]).startswith(prefix)]


def wait_drained(headrace: HeadraceUnderTest, manifest: Manifest, *, seconds: float = 60) -> None:
    """Wait until what was removed is gone."""
    wait_until(
        lambda: (
            headrace.is_settled(manifest) and not condition(headrace.get(manifest) or {}, "Drained")
        ),
        seconds,
        f"drained: {condition(headrace.get(manifest) or {}, 'Drained')}",
    )


@pytest.mark.clause("flows 2")
def test_an_event_passes_the_steps_in_order(headrace: HeadraceUnderTest) -> None:
    """Each step gets what the one before answered; the last answer goes to the reply. A step that
    fails is tried again by its own delivery, and has its own dead letter sink.
    """
    poisoned = Script(mode=Mode.REPLY, poison={"5:3": 400})
    second = {
        **step(headrace, "order-b"),
        "delivery": delivery(retry=1, sink=headrace.sinks.url("dls-order")),
    }
    headrace.sinks.script("order-b", poisoned)
    headrace.sinks.script("order-end", Script(record=True))
    line = sequence(
        "order",
        step(headrace, "order-a"),
        second,
        step(headrace, "order-c"),
        reply=end(headrace, "order-end"),
    )
    headrace.establish(line)
    send(headrace, line, 10, writer="order")
    wait_for_events(headrace, "order-end", 8)
    wait_for_events(headrace, "dls-order", 2)
    passed = events(10, writer="order") - Counter(("order.3", "order.8"))
    assert events(10, writer="order") == accepted(headrace, "order-a")
    assert passed == accepted(headrace, "order-c") == accepted(headrace, "order-end")
    assert Counter(("order.3", "order.8")) == accepted(headrace, "dls-order")
    # Each of the three steps has answered what the one before had answered.
    ids = {each.headers["ce-id"] for each in headrace.sinks.requests("order-end")}
    assert ids == {f"r:r:r:{name}" for name in passed}


def test_a_flow_takes_events_by_its_host_too(headrace: HeadraceUnderTest) -> None:
    """The host of its first channel; without an answer of the last step, nothing is left to do."""
    if isinstance(headrace, EmbeddedHeadrace):
        pytest.skip("on a loopback address, only hosts that a setting names are taken")
    line = sequence("hosted", end(headrace, "hosted"))
    headrace.establish(line)
    found = headrace.get(line) or {}
    assert found["status"]["address"]["url"] == headrace.ingress_url + address(line)
    host = f"hosted-kn-sequence-0-kn-channel.{NAMESPACE}.svc.cluster.local"
    event = {"ce-specversion": "1.0", "ce-id": "hosted.0", "ce-source": "/me", "ce-type": "t"}
    assert 202 == headrace.post("/", {**event, "host": host}, b"{}")
    wait_for_events(headrace, "hosted", 1)


@pytest.mark.clause("flows 3")
def test_a_branch_gets_what_its_filter_answers(headrace: HeadraceUnderTest) -> None:
    """A filter that answers without an event drops it; without a filter every event passes. The
    reply is the branch's, else the Parallel's.
    """
    fan = parallel(
        "fan",
        {"filter": step(headrace, "fan-yes"), "subscriber": step(headrace, "fan-a")},
        {"filter": end(headrace, "fan-no"), "subscriber": step(headrace, "fan-b")},
        {"subscriber": step(headrace, "fan-c"), "reply": end(headrace, "fan-own")},
        reply=end(headrace, "fan-all"),
    )
    headrace.establish(fan)
    send(headrace, fan, 10, writer="fan")
    for sink in ("fan-yes", "fan-no", "fan-a", "fan-c", "fan-own", "fan-all"):
        wait_for_events(headrace, sink, 10)
        assert events(10, writer="fan") == accepted(headrace, sink)
    assert stays_true(lambda: not accepted(headrace, "fan-b"), seconds=0.5)


def test_flows_channels_and_brokers_are_steps_of_each_other(headrace: HeadraceUnderTest) -> None:
    """By reference. Such a step answers without an event; the inner flow's reply goes further."""
    target, ways = broker(NAMESPACE, "nested"), channel(NAMESPACE, "nested-ways")
    final = trigger(NAMESPACE, "nested-final", headrace.sinks.url("nested-end"), broker="nested")
    inner = parallel(
        "nested-inner", {"subscriber": step(headrace, "nested-b")}, reply=reference_to(target)
    )
    outer = sequence("nested-outer", step(headrace, "nested-a"), reference_to(inner))
    entry = sequence("nested-entry", reference_to(ways))
    headrace.apply(entry, outer, inner, ways, target)
    headrace.establish(final, subscription(ways, "nested-ways", reply=reference_to(outer)))
    headrace.wait_ready(target, ways, inner, outer, entry)
    send(headrace, entry, 10, writer="nested")
    wait_for_events(headrace, "nested-end", 10)
    for sink in ("nested-a", "nested-b", "nested-end"):
        assert events(10, writer="nested") == accepted(headrace, sink)


def test_a_loop_is_stopped_and_shown(headrace: HeadraceUnderTest) -> None:
    """A Sequence whose reply is itself: replies of the loop are slowed down, and the condition of
    its Subscription names it.
    """
    line = sequence("loop", step(headrace, "loop"))
    headrace.establish(line)
    headrace.establish(sequence("loop", step(headrace, "loop"), reply=reference_to(line)))
    send(headrace, line, 1, writer="loop")
    first = {
        "apiVersion": "messaging.knative.dev/v1",
        "kind": "Subscription",
        "metadata": {"name": "loop-kn-sequence-0", "namespace": NAMESPACE},
    }

    def shown() -> Mapping[str, Any]:
        return condition(headrace.get(first) or {}, "DeliveryHealthy")

    wait_until(lambda: shown().get("reason") == "ReplyLoop", 60, "the loop is shown")
    assert f"{NAMESPACE}/loop-kn-sequence-0" in shown()["message"]


class Writer:
    """Sends numbered events to a flow until it is stopped."""

    def __init__(self, headrace: HeadraceUnderTest, to: Manifest, name: str) -> None:
        self.sent = 0
        self._headrace, self._to, self._name = headrace, to, name
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.005):
                event = numbered(self._headrace.seed, self._name, self.sent)
                status = self._headrace.send(event, address(self._to))
                assert status in (202, 503)
                self.sent += status == 202  # else it is sent again, as the answer asks for
        except BaseException as error:
            self._failed.append(error)

    def wait_for(self, more: int) -> None:
        """Wait until so many more events were accepted."""
        until = self.sent + more
        wait_until(lambda: self.sent >= until or self._failed, 60, f"{more} more events")

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(30)
        if self._failed:
            raise self._failed[0]


@pytest.mark.clause("flows 5")
def test_steps_change_while_events_pass_and_none_is_lost(headrace: HeadraceUnderTest) -> None:
    """Steps are added at the end and in the middle, reordered, and removed, down to one: every
    accepted event comes out at the end, and the children of removed steps are gone.
    """
    a, b, c, d = (step(headrace, f"live-{name}") for name in "abcd")
    # Slow: there is always something in its channel when it is removed.
    headrace.sinks.script("live-c", Script(mode=Mode.REPLY, delay_seconds=0.05))
    reply = end(headrace, "live-end")
    line = sequence("live", a, reply=reply)
    headrace.establish(line)
    with Writer(headrace, line, "live") as writer:
        for steps in (
            [a, b],
            [a, b, c],
            [a, d, b, c],
            [c, b, d, a],
            [a, c],
            [a, b, c, d],
            [b],
            [a],
        ):
            writer.wait_for(40)
            headrace.establish(sequence("live", *steps, reply=reply))
        writer.wait_for(40)
    wait_for_events(headrace, "live-end", writer.sent, seconds=60)
    wait_drained(headrace, line)
    assert set(events(writer.sent, writer="live")) == set(accepted(headrace, "live-end"))
    for kind in ("subscriptions", "kafkachannels"):
        assert ["live-kn-sequence-0"] == names_of(headrace, kind, "live-")
    again = sum(accepted(headrace, "live-end").values()) - writer.sent
    print(f"{writer.sent} events sent, {again} of them came more than once")


@pytest.mark.clause("flows 5")
def test_branches_change_while_events_pass_and_none_is_lost(headrace: HeadraceUnderTest) -> None:
    """A branch that stays gets every event, whatever its number is; one that comes or goes gets
    what is sent while it is there.
    """
    keep = {"filter": step(headrace, "turn-filter"), "subscriber": step(headrace, "turn-keep")}
    other = {"subscriber": end(headrace, "turn-other")}
    third = {"filter": step(headrace, "turn-slow"), "subscriber": end(headrace, "turn-third")}
    headrace.sinks.script("turn-slow", Script(mode=Mode.REPLY, delay_seconds=0.05))
    reply = end(headrace, "turn-end")
    fan = parallel("turn", keep, reply=reply)
    headrace.establish(fan)
    with Writer(headrace, fan, "turn") as writer:
        for branches in ([keep, other], [other, third, keep], [keep, third], [other, keep], [keep]):
            writer.wait_for(40)
            headrace.establish(parallel("turn", *branches, reply=reply))
        writer.wait_for(40)
    wait_drained(headrace, fan)
    wait_for_events(headrace, "turn-keep", writer.sent, seconds=60)
    assert set(events(writer.sent, writer="turn")) == set(accepted(headrace, "turn-keep"))
    assert ["turn-kn-parallel", "turn-kn-parallel-0"] == names_of(
        headrace, "kafkachannels", "turn-"
    )


def test_a_removed_step_that_fails_stays_until_it_works(headrace: HeadraceUnderTest) -> None:
    """`Drained` says how many events it has; then they are delivered, and it is gone."""
    headrace.sinks.script("stuck", Script(status=503, record=True))
    line = sequence("stuck", step(headrace, "stuck-a"), end(headrace, "stuck"))
    headrace.establish(line)
    send(headrace, line, 5, writer="stuck")
    # Each of them: what is still before the first step when the second is removed ends there.
    wait_until(
        lambda: len({each.headers["ce-id"] for each in headrace.sinks.requests("stuck")}) == 5,
        30,
        "they fail",
    )
    shorter = sequence("stuck", step(headrace, "stuck-a"))
    headrace.establish(shorter)
    wait_until(
        lambda: (
            "not delivered yet"
            in condition(headrace.get(shorter) or {}, "Drained").get("message", "")
        ),
        30,
        "the condition says what is left",
    )
    assert stays_true(lambda: len(names_of(headrace, "subscriptions", "stuck-")) == 2, seconds=3.0)
    headrace.sinks.script("stuck", Script())
    wait_for_events(headrace, "stuck", 5, seconds=60)
    wait_drained(headrace, shorter)
    assert ["stuck-kn-sequence-0"] == names_of(headrace, "subscriptions", "stuck-")


def test_a_deleted_flow_takes_its_children_along(headrace: HeadraceUnderTest) -> None:
    """Channels and Subscriptions, by garbage collection."""
    if isinstance(headrace, HeadraceOnKubernetes):
        pytest.skip("garbage is collected by the controller manager, which does not run here")
    line, fan = (
        sequence("gone", end(headrace, "gone")),
        parallel("gone", {"subscriber": end(headrace, "gone")}),
    )
    headrace.establish(line, fan)
    headrace.delete(line, fan)
    for kind in ("subscriptions", "kafkachannels"):
        wait_until(
            lambda kind=kind: not names_of(headrace, kind, "gone-"),  # type: ignore[misc]
            30,
            f"the {kind} are gone",
        )
