"""Creating and deleting Brokers and Triggers on the embedded Kafka, and the delays of its groups:
all as on Apache Kafka.
"""

from collections.abc import Iterator

import pytest

from tests.support.embedded_headrace import EmbeddedHeadrace, embedded_headrace_in
from tests.support.headrace_under_test import condition, stays_true, wait_for_events
from tests.support.ledger import numbered
from tests.support.manifests import broker, delivery, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.timeout(120)
NAMESPACE = "emb"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHeadrace]:
    """One process for all tests of this module."""
    with embedded_headrace_in(tmp_path_factory.mktemp("embedded")) as started:
        yield started


def _send(system: EmbeddedHeadrace, name: str, place: str, counter: int = 0) -> None:
    assert system.send(numbered(system.seed, name, counter), f"/{NAMESPACE}/{place}") == 202


def test_a_trigger_is_moved_to_another_broker(system: EmbeddedHeadrace) -> None:
    """A Trigger that is deleted on one Broker and applied on another becomes Ready and receives
    what is sent to the new one.
    """
    system.establish(
        broker(NAMESPACE, "a"),
        broker(NAMESPACE, "b"),
        trigger(NAMESPACE, "x", system.sinks.url("on-a"), broker="a"),
    )
    _send(system, "on-a", "a")
    wait_for_events(system, "on-a", 1)
    system.delete(trigger(NAMESPACE, "x", system.sinks.url("on-a"), broker="a"))
    moved = trigger(NAMESPACE, "x", system.sinks.url("on-b"), broker="b")
    system.apply(moved)
    system.wait_ready(moved, seconds=5.0)
    _send(system, "on-b", "b")
    wait_for_events(system, "on-b", 1)


def test_a_recreated_trigger_gets_no_earlier_events(system: EmbeddedHeadrace) -> None:
    """It gets neither events that were accepted in between, nor events that waited for their next
    attempt when it was deleted. Repeated several times.
    """
    system.establish(broker(NAMESPACE, "again"))
    for life in range(3):
        sink = f"life-{life}"
        system.sinks.script(sink, Script(poison={"1000:0": 500}))
        manifest = trigger(
            NAMESPACE,
            "again",
            system.sinks.url(sink),
            broker="again",
            delivery=delivery(retry=3, delay="PT3S"),
        )
        system.establish(manifest)
        _send(system, sink, "again", 1)
        wait_for_events(system, sink, 1)
        _send(system, sink, "again", 1000)
        wait_until(
            lambda sink=sink: system.sinks.counts(sink)["requests"] == 2,  # type: ignore[misc]
            15.0,
            "the retry is dead-lettered",
        )
        system.delete(manifest)
        _send(system, f"between-{life}", "again", 1)
    assert [1, 1, 1] == [system.sinks.events(f"life-{life}") for life in range(3)]
    assert stays_true(
        lambda: all(system.sinks.counts(f"life-{life}")["requests"] == 2 for life in range(3)),
        seconds=2.0,
    )
    assert [] == system.log.records(f"knative-trigger-{NAMESPACE}-again.dead")


def test_a_recreated_broker_has_other_partitions(system: EmbeddedHeadrace) -> None:
    """The topic of a Broker is deleted with the Broker."""
    system.establish(
        broker(NAMESPACE, "made"),
        trigger(NAMESPACE, "made", system.sinks.url("made"), broker="made"),
    )
    _send(system, "made", "made", 0)
    wait_for_events(system, "made", 1)
    system.delete(
        trigger(NAMESPACE, "made", system.sinks.url("made"), broker="made"),
        broker(NAMESPACE, "made"),
    )
    assert f"knative-broker-{NAMESPACE}-made" not in system.log.topics()
    system.establish(
        broker(NAMESPACE, "made"),
        trigger(NAMESPACE, "made", system.sinks.url("made"), broker="made"),
    )
    _send(system, "made", "made", 1)
    wait_for_events(system, "made", 2)


@pytest.mark.parametrize("sink", [False, True], ids=["no-sink", "sink"])
def test_the_first_retry_comes_when_it_is_due(system: EmbeddedHeadrace, sink: bool) -> None:
    """It comes at most a second after `backoffDelay`, because the group does not wait for its
    members first.
    """
    name = f"retry-{sink}".lower()
    system.sinks.script(name, Script(failures=1, failure_status=503, record=True))
    policy = delivery(
        retry=3, delay="PT0.2S", sink=system.sinks.url(f"{name}-dead") if sink else None
    )
    system.establish(
        broker(NAMESPACE, name),
        trigger(NAMESPACE, name, system.sinks.url(name), broker=name, delivery=policy),
    )
    _send(system, name, name)
    wait_for_events(system, name, 1)
    first, second = system.sinks.requests(name)
    print(f"the retry came after {second.at - first.at:.2f} s")
    assert 0.15 <= second.at - first.at < 1.2


def test_a_change_of_order_takes_a_second(system: EmbeddedHeadrace) -> None:
    """The feed leaves its group and joins it again."""
    manifest = trigger(NAMESPACE, "order", system.sinks.url("order"), broker="order")
    system.establish(broker(NAMESPACE, "order"), manifest)
    annotations = {"kafka.eventing.knative.dev/delivery.order": "ordered"}
    system.establish({**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}})
    _send(system, "order", "order")
    wait_for_events(system, "order", 1, seconds=4.0)
    assert "True" == condition(system.get(manifest) or {}, "Ready")["status"]
