"""Brokers and Triggers that come and go on the embedded Kafka, and what its groups must not cost:
as on Apache Kafka, in its time.
"""

from collections.abc import Iterator

import pytest

from tests.support.embedded_world import EmbeddedWorld, embedded_world_in
from tests.support.ledger import numbered
from tests.support.manifests import broker, delivery, trigger
from tests.support.scripts import Script
from tests.support.waiting import wait_until
from tests.support.world import condition, stays_true, wait_for_events

pytestmark = pytest.mark.timeout(120)
NAMESPACE = "emb"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWorld]:
    """One process for all tests here."""
    with embedded_world_in(tmp_path_factory.mktemp("embedded")) as started:
        yield started


def _send(world: EmbeddedWorld, name: str, place: str, counter: int = 0) -> None:
    assert world.send(numbered(world.seed, name, counter), f"/{NAMESPACE}/{place}") == 202


def test_a_trigger_moves_to_another_broker(world: EmbeddedWorld) -> None:
    """Deleted on one Broker and applied again on another it becomes Ready and gets what is sent
    there.
    """
    world.establish(
        broker(NAMESPACE, "a"),
        broker(NAMESPACE, "b"),
        trigger(NAMESPACE, "x", world.sinks.url("on-a"), broker="a"),
    )
    _send(world, "on-a", "a")
    wait_for_events(world, "on-a", 1)
    world.delete(trigger(NAMESPACE, "x", world.sinks.url("on-a"), broker="a"))
    moved = trigger(NAMESPACE, "x", world.sinks.url("on-b"), broker="b")
    world.apply(moved)
    world.wait_ready(moved, seconds=5.0)
    _send(world, "on-b", "b")
    wait_for_events(world, "on-b", 1)


def test_a_trigger_made_again_gets_nothing_from_before(world: EmbeddedWorld) -> None:
    """Neither what was accepted in between, nor what waited for its next attempt when it was
    deleted; each of several times.
    """
    world.establish(broker(NAMESPACE, "again"))
    for life in range(3):
        sink = f"life-{life}"
        world.sinks.script(sink, Script(poison={"1000:0": 500}))
        manifest = trigger(
            NAMESPACE,
            "again",
            world.sinks.url(sink),
            broker="again",
            delivery=delivery(retry=3, delay="PT3S"),
        )
        world.establish(manifest)
        _send(world, sink, "again", 1)
        wait_for_events(world, sink, 1)
        _send(world, sink, "again", 1000)
        wait_until(
            lambda sink=sink: world.sinks.counts(sink)["requests"] == 2,  # type: ignore[misc]
            15.0,
            "the retry is parked",
        )
        world.delete(manifest)
        _send(world, f"between-{life}", "again", 1)
    assert [1, 1, 1] == [world.sinks.events(f"life-{life}") for life in range(3)]
    assert stays_true(
        lambda: all(world.sinks.counts(f"life-{life}")["requests"] == 2 for life in range(3)),
        seconds=2.0,
    )
    assert [] == world.log.records(f"knative-trigger-{NAMESPACE}-again.dead")


def test_a_broker_made_again_has_other_partitions(world: EmbeddedWorld) -> None:
    """Its topic is deleted with it."""
    world.establish(
        broker(NAMESPACE, "made"),
        trigger(NAMESPACE, "made", world.sinks.url("made"), broker="made"),
    )
    _send(world, "made", "made", 0)
    wait_for_events(world, "made", 1)
    world.delete(
        trigger(NAMESPACE, "made", world.sinks.url("made"), broker="made"),
        broker(NAMESPACE, "made"),
    )
    assert f"knative-broker-{NAMESPACE}-made" not in world.log.topics()
    world.establish(
        broker(NAMESPACE, "made"),
        trigger(NAMESPACE, "made", world.sinks.url("made"), broker="made"),
    )
    _send(world, "made", "made", 1)
    wait_for_events(world, "made", 2)


@pytest.mark.parametrize("sink", [False, True], ids=["no-sink", "sink"])
def test_the_first_retry_comes_when_it_is_due(world: EmbeddedWorld, sink: bool) -> None:
    """Within a second of `backoffDelay`: no group has to wait for its members first."""
    name = f"retry-{sink}".lower()
    world.sinks.script(name, Script(failures=1, failure_status=503, record=True))
    policy = delivery(
        retry=3, delay="PT0.2S", sink=world.sinks.url(f"{name}-dead") if sink else None
    )
    world.establish(
        broker(NAMESPACE, name),
        trigger(NAMESPACE, name, world.sinks.url(name), broker=name, delivery=policy),
    )
    _send(world, name, name)
    wait_for_events(world, name, 1)
    first, second = world.sinks.requests(name)
    print(f"the retry came after {second.at - first.at:.2f} s")
    assert 0.15 <= second.at - first.at < 1.2


def test_a_change_of_order_takes_a_second(world: EmbeddedWorld) -> None:
    """The feed leaves its group and joins it again."""
    manifest = trigger(NAMESPACE, "order", world.sinks.url("order"), broker="order")
    world.establish(broker(NAMESPACE, "order"), manifest)
    annotations = {"kafka.eventing.knative.dev/delivery.order": "ordered"}
    world.establish({**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}})
    _send(world, "order", "order")
    wait_for_events(world, "order", 1, seconds=4.0)
    assert "True" == condition(world.get(manifest) or {}, "Ready")["status"]
