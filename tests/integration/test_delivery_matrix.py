"""Knative's delivery matrix (conformance of Broker and Trigger) against the running services, and
the data plane's clauses around it.

Two Triggers of one Broker each turn an event down a number of times; where it ends up is decided by
the policies of both. Where Knative drops an event, ours stands in the subscription's dead letter
topic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.embedded_world import EmbeddedWorld, embedded_world_in
from tests.support.ledger import numbered
from tests.support.manifests import broker, delivery, trigger
from tests.support.scripts import Script
from tests.support.waiting import wait_until
from tests.support.world import World, group_of, stays_true, wait_for_events, world_in

NAMESPACE = "matrix"
DELAY = "PT0.05S"


@pytest.fixture(
    scope="module", params=[pytest.param("apache", marks=pytest.mark.kafka), "embedded"]
)
def installation(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[World]:
    """One installation for all rows; each has a Broker of its own."""
    make = world_in if request.param == "apache" else embedded_world_in
    with make(tmp_path_factory.mktemp("matrix")) as started:
        yield started


@pytest.fixture
def world(installation: World, request: pytest.FixtureRequest) -> World:
    """It, for a test that it can be asked for."""
    if isinstance(installation, EmbeddedWorld):
        skip_what_the_embedded_kafka_cannot(request)
    return installation


@dataclass(frozen=True, slots=True)
class Side:
    """One Trigger of a row: its own delivery, how often its subscriber fails first, and where the
    event must end up.
    """

    delivery: dict[str, Any] | None
    failures: int
    expected: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the matrix; in `delivery` blocks a sink stands by its role: `broker` or
    `trigger`.
    """

    name: str
    broker: dict[str, Any] | None
    first: Side
    second: Side


ROWS = (
    Row("plain", None, Side(None, 0, "delivered"), Side(None, 0, "delivered")),
    Row(
        "broker-sink",
        delivery(sink="broker", retry=3, delay=DELAY),
        Side(None, 3, "delivered"),
        Side(None, 4, "broker"),
    ),
    Row(
        "trigger-over-zero",
        delivery(retry=0, delay=DELAY),
        Side(delivery(sink="trigger", retry=3), 3, "delivered"),
        Side(delivery(retry=1), 2, "dead letter topic"),
    ),
    Row(
        "both-delivered",
        delivery(sink="broker", retry=1, delay=DELAY),
        Side(delivery(sink="trigger", retry=3), 3, "delivered"),
        Side(None, 2, "broker"),
    ),
    Row(
        "both-sinks",
        delivery(sink="broker", retry=1, delay=DELAY),
        Side(delivery(sink="trigger", retry=3), 4, "trigger"),
        Side(None, 2, "broker"),
    ),
)


@pytest.mark.clause("E9", "E11")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_of_the_matrix(world: World, row: Row) -> None:
    """Both Triggers bring the event where the policies of Trigger and Broker, field by
    field, say.
    """

    def resolved(block: dict[str, Any] | None) -> dict[str, Any] | None:
        if block and "deadLetterSink" in block:
            role = block["deadLetterSink"]["uri"]
            return {**block, "deadLetterSink": {"uri": world.sinks.url(f"dls-{role}-{row.name}")}}
        return block

    sides = {f"{row.name}-1": row.first, f"{row.name}-2": row.second}
    for sink, side in sides.items():
        world.sinks.script(sink, Script(failures=side.failures, failure_status=503))
    for role in ("broker", "trigger"):
        world.sinks.script(f"dls-{role}-{row.name}", Script(record=True))
    triggers = [
        trigger(
            NAMESPACE,
            sink,
            world.sinks.url(sink),
            broker=row.name,
            delivery=resolved(side.delivery),
        )
        for sink, side in sides.items()
    ]
    world.establish(broker(NAMESPACE, row.name, delivery=resolved(row.broker)), *triggers)
    event = numbered(world.seed, row.name, 0)
    assert world.send(event, f"/{NAMESPACE}/{row.name}") == 202

    places: dict[str, int] = {"broker": 0, "trigger": 0}
    for manifest, (sink, side) in zip(triggers, sides.items(), strict=True):
        if side.expected == "delivered":
            wait_for_events(world, sink, 1)
        else:
            dead = f"{group_of(world.get(manifest) or manifest)}.dead"
            wait_until(
                lambda dead=dead: len(world.log.records(dead)) == 1,  # type: ignore[misc]
                15.0,
                f"the event is in {dead}",
                every=0.2,
            )
        if side.expected in places:
            places[side.expected] += 1
    for role, count in places.items():
        if count:
            wait_for_events(world, f"dls-{role}-{row.name}", 1)
        assert world.sinks.counts(f"dls-{role}-{row.name}").get("accepted", 0) == count
    for sink, side in sides.items():
        attempts = side.failures + (side.expected == "delivered")
        assert world.sinks.counts(sink)["requests"] == attempts


@pytest.mark.clause("error extensions")
def test_dead_letter_says_why(world: World) -> None:
    """The copy for the dead letter sink is the event itself with destination, code and the first
    bytes of the answer.
    """
    world.sinks.script("refusing", Script(status=422, body="no such order"))
    world.sinks.script("dls-why", Script(record=True))
    policy = delivery(sink=world.sinks.url("dls-why"))
    world.establish(
        broker(NAMESPACE, "why"),
        trigger(NAMESPACE, "why", world.sinks.url("refusing"), broker="why", delivery=policy),
    )
    assert world.send(numbered(world.seed, "why", 0), f"/{NAMESPACE}/why") == 202
    wait_for_events(world, "dls-why", 1)
    (request,) = world.sinks.requests("dls-why")
    found = {
        name: request.headers.get(name)
        for name in (
            "ce-knativeerrordest",
            "ce-knativeerrorcode",
            "ce-knativeerrordata",
            "kn-namespace",
        )
    }
    assert found == {
        "ce-knativeerrordest": world.sinks.url("refusing"),
        "ce-knativeerrorcode": "422",
        "ce-knativeerrordata": "bm8gc3VjaCBvcmRlcg==",
        "kn-namespace": NAMESPACE,
    }
    assert world.sinks.counts("dls-why").get("damaged", 0) == 0
    assert world.sinks.counts("refusing")["requests"] == 1


def test_unreachable_subscriber_has_a_destination_and_no_code(world: World) -> None:
    """Where no answer ever came, the dead letter names the destination alone."""
    world.sinks.script("dls-nobody", Script(record=True))
    policy = delivery(sink=world.sinks.url("dls-nobody"), retry=1, delay=DELAY)
    world.establish(
        broker(NAMESPACE, "nobody"),
        trigger(NAMESPACE, "nobody", "http://127.0.0.1:9/", broker="nobody", delivery=policy),
    )
    assert world.send(numbered(world.seed, "nobody", 0), f"/{NAMESPACE}/nobody") == 202
    wait_for_events(world, "dls-nobody", 1)
    (request,) = world.sinks.requests("dls-nobody")
    assert request.headers["ce-knativeerrordest"] == "http://127.0.0.1:9/"
    assert "ce-knativeerrorcode" not in request.headers


@pytest.mark.clause("D6", "E9")
@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_retryable_status_is_tried_again(world: World, status: int) -> None:
    """Each status that Knative's data plane calls retryable is retried until the subscriber takes
    the event.
    """
    name = f"again-{status}"
    world.sinks.script(name, Script(failures=2, failure_status=status))
    world.establish(
        broker(NAMESPACE, name),
        trigger(
            NAMESPACE,
            name,
            world.sinks.url(name),
            broker=name,
            delivery=delivery(retry=2, delay=DELAY),
        ),
    )
    assert world.send(numbered(world.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
    wait_for_events(world, name, 1)
    assert world.sinks.counts(name)["requests"] == 3


@pytest.mark.clause("D6")
@pytest.mark.parametrize("status", [400, 401, 403, 410, 307])
def test_final_status_is_not_tried_again(world: World, status: int) -> None:
    """Any other client error, and a redirect, goes to the dead letter topic after one attempt, and
    the redirect is not followed.
    """
    name = f"final-{status}"
    world.sinks.script(
        name, Script(status=status, headers={"Location": world.sinks.url(f"{name}-elsewhere")})
    )
    manifest = trigger(
        NAMESPACE, name, world.sinks.url(name), broker=name, delivery=delivery(retry=3, delay=DELAY)
    )
    world.establish(broker(NAMESPACE, name), manifest)
    assert world.send(numbered(world.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
    dead = f"{group_of(world.get(manifest) or manifest)}.dead"
    wait_until(
        lambda: len(world.log.records(dead)) == 1, 15.0, f"the event is in {dead}", every=0.2
    )
    assert world.sinks.counts(name)["requests"] == 1
    assert world.sinks.counts(f"{name}-elsewhere") == {}


@pytest.mark.clause("D9")
def test_retry_after_is_honoured(world: World) -> None:
    """A 429 with `Retry-After: 1` is not tried again before a second has passed."""
    world.sinks.script(
        "patience",
        Script(failures=1, failure_status=429, headers={"Retry-After": "1"}, record=True),
    )
    policy = delivery(retry=3, delay=DELAY)
    world.establish(
        broker(NAMESPACE, "patience"),
        trigger(
            NAMESPACE, "patience", world.sinks.url("patience"), broker="patience", delivery=policy
        ),
    )
    assert world.send(numbered(world.seed, "patience", 0), f"/{NAMESPACE}/patience") == 202
    wait_for_events(world, "patience", 1)
    first, second = world.sinks.requests("patience")
    assert 1.0 <= second.at - first.at < 4.0


def test_attempt_has_a_deadline(world: World) -> None:
    """A subscriber that never answers, and one that drips, cost one `timeout` each and are then
    tried again.
    """
    from tests.support.scripts import Mode

    for mode in (Mode.HANG, Mode.DRIP):
        name = f"late-{mode.value}"
        world.sinks.script(name, Script(mode=mode, record=True))
        manifest = trigger(
            NAMESPACE,
            name,
            world.sinks.url(name),
            broker=name,
            delivery=delivery(retry=1, delay=DELAY, timeout="PT0.5S"),
        )
        world.establish(broker(NAMESPACE, name), manifest)
        assert world.send(numbered(world.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
        dead = f"{group_of(world.get(manifest) or manifest)}.dead"
        wait_until(
            lambda dead=dead: len(world.log.records(dead)) == 1,  # type: ignore[misc]
            15.0,
            f"the event is in {dead}",
            every=0.2,
        )
        first, second = world.sinks.requests(name)
        assert 0.5 <= second.at - first.at < 3.0


@pytest.mark.clause("D14", "headers")
def test_request_says_what_knative_says(world: World) -> None:
    """A delivery carries `Prefer: reply`, the namespace and the trace it came with; credentials of
    the sender are dropped.
    """
    world.sinks.script("headers", Script(record=True))
    world.establish(
        broker(NAMESPACE, "headers"),
        trigger(NAMESPACE, "headers", world.sinks.url("headers"), broker="headers"),
    )
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = {
        "ce-specversion": "1.0",
        "ce-id": "h1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "text/plain",
    }
    more = {
        "traceparent": trace,
        "knative-thing": "kept",
        "x-request-id": "r1",
        "authorization": "Bearer secret",
        "cookie": "a=b",
    }
    assert world.post(f"/{NAMESPACE}/headers", {**event, **more}, b"hello") == 202
    wait_until(lambda: world.sinks.requests("headers"), 15.0, "the event arrives")
    (request,) = world.sinks.requests("headers")
    assert request.headers["prefer"] == "reply"
    assert request.headers["kn-namespace"] == NAMESPACE
    assert request.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert (request.headers["knative-thing"], request.headers["x-request-id"], request.body) == (
        "kept",
        "r1",
        b"hello",
    )
    assert not {"authorization", "cookie"} & set(request.headers)


@pytest.mark.clause("D1")
def test_old_version_is_delivered_as_it_came(world: World) -> None:
    """An event of CloudEvents 0.3 is accepted and not upgraded."""
    world.sinks.script("old", Script(record=True))
    world.establish(
        broker(NAMESPACE, "old"), trigger(NAMESPACE, "old", world.sinks.url("old"), broker="old")
    )
    event = {
        "ce-specversion": "0.3",
        "ce-id": "o1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "text/plain",
    }
    assert world.post(f"/{NAMESPACE}/old", event, b"old") == 202
    wait_until(lambda: world.sinks.requests("old"), 15.0, "the event arrives")
    (request,) = world.sinks.requests("old")
    assert request.headers["ce-specversion"] == "0.3"


def test_nothing_comes_twice_in_peace(world: World) -> None:
    """Without a fault every event is delivered once to each Trigger, also where both have one
    subscriber.
    """
    world.establish(
        broker(NAMESPACE, "once"),
        *(trigger(NAMESPACE, f"once-{n}", world.sinks.url("once"), broker="once") for n in (1, 2)),
    )
    for counter in range(20):
        assert world.send(numbered(world.seed, "once", counter), f"/{NAMESPACE}/once") == 202
    wait_until(lambda: world.sinks.counts("once").get("accepted", 0) >= 40, 15.0, "40 deliveries")
    assert stays_true(lambda: world.sinks.counts("once")["accepted"] == 40, seconds=1.0)
