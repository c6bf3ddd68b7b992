"""Knative's delivery matrix (conformance of Broker and Trigger) with the running services, and the
related data plane clauses.

Two Triggers of one Broker each refuse an event a number of times; the policies of both decide where
it ends. Where Knative drops an event, Headrace writes it to the subscription's dead letter topic.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.embedded_headrace import EmbeddedHeadrace, embedded_headrace_in
from tests.support.embedded_limits import skip_what_the_embedded_kafka_cannot
from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    group_of,
    headrace_in,
    stays_true,
    wait_for_events,
)
from tests.support.ledger import numbered
from tests.support.manifests import broker, delivery, trigger
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

NAMESPACE = "matrix"
DELAY = "PT0.05S"


@pytest.fixture(
    scope="module", params=[pytest.param("apache", marks=pytest.mark.kafka), "embedded"]
)
def installation(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[HeadraceUnderTest]:
    """One installation for all rows; each row has its own Broker."""
    make = headrace_in if request.param == "apache" else embedded_headrace_in
    with make(tmp_path_factory.mktemp("matrix")) as started:
        yield started


@pytest.fixture
def system(installation: HeadraceUnderTest, request: pytest.FixtureRequest) -> HeadraceUnderTest:
    """The installation, for tests that can be run alone."""
    if isinstance(installation, EmbeddedHeadrace):
        skip_what_the_embedded_kafka_cannot(request)
    return installation


@dataclass(frozen=True, slots=True)
class Side:
    """One Trigger of a row: its own delivery policy, how often its subscriber fails first, and
    where the event must end.
    """

    delivery: dict[str, Any] | None
    failures: int
    expected: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the matrix; in `delivery` blocks a sink is named by its role: `broker` or
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
def test_row_of_the_matrix(system: HeadraceUnderTest, row: Row) -> None:
    """Both Triggers deliver the event as the policies of Trigger and Broker, merged field by field,
    require.
    """

    def resolved(block: dict[str, Any] | None) -> dict[str, Any] | None:
        if block and "deadLetterSink" in block:
            role = block["deadLetterSink"]["uri"]
            return {**block, "deadLetterSink": {"uri": system.sinks.url(f"dls-{role}-{row.name}")}}
        return block

    sides = {f"{row.name}-1": row.first, f"{row.name}-2": row.second}
    for sink, side in sides.items():
        system.sinks.script(sink, Script(failures=side.failures, failure_status=503))
    for role in ("broker", "trigger"):
        system.sinks.script(f"dls-{role}-{row.name}", Script(record=True))
    triggers = [
        trigger(
            NAMESPACE,
            sink,
            system.sinks.url(sink),
            broker=row.name,
            delivery=resolved(side.delivery),
        )
        for sink, side in sides.items()
    ]
    system.establish(broker(NAMESPACE, row.name, delivery=resolved(row.broker)), *triggers)
    event = numbered(system.seed, row.name, 0)
    assert system.send(event, f"/{NAMESPACE}/{row.name}") == 202

    places: dict[str, int] = {"broker": 0, "trigger": 0}
    for manifest, (sink, side) in zip(triggers, sides.items(), strict=True):
        if side.expected == "delivered":
            wait_for_events(system, sink, 1)
        else:
            dead = f"{group_of(system.get(manifest) or manifest)}.dead"
            wait_until(
                lambda dead=dead: len(system.log.records(dead)) == 1,  # type: ignore[misc]
                15.0,
                f"the event is in {dead}",
                every=0.2,
            )
        if side.expected in places:
            places[side.expected] += 1
    for role, count in places.items():
        if count:
            wait_for_events(system, f"dls-{role}-{row.name}", 1)
        assert system.sinks.counts(f"dls-{role}-{row.name}").get("accepted", 0) == count
    for sink, side in sides.items():
        attempts = side.failures + (side.expected == "delivered")
        assert system.sinks.counts(sink)["requests"] == attempts


@pytest.mark.clause("error extensions")
def test_dead_letter_has_its_reason(system: HeadraceUnderTest) -> None:
    """The copy for the dead letter sink is the event itself with destination, code and the first
    bytes of the response.
    """
    system.sinks.script("refusing", Script(status=422, body="no such order"))
    system.sinks.script("dls-why", Script(record=True))
    policy = delivery(sink=system.sinks.url("dls-why"))
    system.establish(
        broker(NAMESPACE, "why"),
        trigger(NAMESPACE, "why", system.sinks.url("refusing"), broker="why", delivery=policy),
    )
    assert system.send(numbered(system.seed, "why", 0), f"/{NAMESPACE}/why") == 202
    wait_for_events(system, "dls-why", 1)
    (request,) = system.sinks.requests("dls-why")
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
        "ce-knativeerrordest": system.sinks.url("refusing"),
        "ce-knativeerrorcode": "422",
        "ce-knativeerrordata": "bm8gc3VjaCBvcmRlcg==",
        "kn-namespace": NAMESPACE,
    }
    assert system.sinks.counts("dls-why").get("damaged", 0) == 0
    assert system.sinks.counts("refusing")["requests"] == 1


def test_unreachable_subscriber_has_a_destination_and_no_code(system: HeadraceUnderTest) -> None:
    """If there was never a response, the dead letter has only the destination."""
    system.sinks.script("dls-unreachable", Script(record=True))
    policy = delivery(sink=system.sinks.url("dls-unreachable"), retry=1, delay=DELAY)
    system.establish(
        broker(NAMESPACE, "unreachable"),
        trigger(
            NAMESPACE, "unreachable", "http://127.0.0.1:9/", broker="unreachable", delivery=policy
        ),
    )
    assert system.send(numbered(system.seed, "unreachable", 0), f"/{NAMESPACE}/unreachable") == 202
    wait_for_events(system, "dls-unreachable", 1)
    (request,) = system.sinks.requests("dls-unreachable")
    assert request.headers["ce-knativeerrordest"] == "http://127.0.0.1:9/"
    assert "ce-knativeerrorcode" not in request.headers


@pytest.mark.clause("D6", "E9")
@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
def test_retryable_status_is_retried(system: HeadraceUnderTest, status: int) -> None:
    """Each status that Knative's data plane calls retryable is retried until the subscriber accepts
    the event.
    """
    name = f"again-{status}"
    system.sinks.script(name, Script(failures=2, failure_status=status))
    system.establish(
        broker(NAMESPACE, name),
        trigger(
            NAMESPACE,
            name,
            system.sinks.url(name),
            broker=name,
            delivery=delivery(retry=2, delay=DELAY),
        ),
    )
    assert system.send(numbered(system.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
    wait_for_events(system, name, 1)
    assert system.sinks.counts(name)["requests"] == 3


@pytest.mark.clause("D6")
@pytest.mark.parametrize("status", [400, 401, 403, 410, 307])
def test_final_status_is_not_retried(system: HeadraceUnderTest, status: int) -> None:
    """Any other client error, and a redirect, goes to the dead letter topic after one attempt, and
    the redirect is not followed.
    """
    name = f"final-{status}"
    system.sinks.script(
        name, Script(status=status, headers={"Location": system.sinks.url(f"{name}-elsewhere")})
    )
    manifest = trigger(
        NAMESPACE,
        name,
        system.sinks.url(name),
        broker=name,
        delivery=delivery(retry=3, delay=DELAY),
    )
    system.establish(broker(NAMESPACE, name), manifest)
    assert system.send(numbered(system.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
    dead = f"{group_of(system.get(manifest) or manifest)}.dead"
    wait_until(
        lambda: len(system.log.records(dead)) == 1, 15.0, f"the event is in {dead}", every=0.2
    )
    assert system.sinks.counts(name)["requests"] == 1
    assert system.sinks.counts(f"{name}-elsewhere") == {}


@pytest.mark.clause("D9")
def test_retry_after_is_honoured(system: HeadraceUnderTest) -> None:
    """After a 429 with `Retry-After: 1` the next attempt starts at least a second later."""
    system.sinks.script(
        "patience",
        Script(failures=1, failure_status=429, headers={"Retry-After": "1"}, record=True),
    )
    policy = delivery(retry=3, delay=DELAY)
    system.establish(
        broker(NAMESPACE, "patience"),
        trigger(
            NAMESPACE, "patience", system.sinks.url("patience"), broker="patience", delivery=policy
        ),
    )
    assert system.send(numbered(system.seed, "patience", 0), f"/{NAMESPACE}/patience") == 202
    wait_for_events(system, "patience", 1)
    first, second = system.sinks.requests("patience")
    assert 1.0 <= second.at - first.at < 4.0


def test_attempt_has_a_deadline(system: HeadraceUnderTest) -> None:
    """A subscriber that never answers, and one that sends slowly, take one `timeout` each and are
    then retried.
    """
    from tests.support.sink_scripts import Mode

    for mode in (Mode.HANG, Mode.DRIP):
        name = f"late-{mode.value}"
        system.sinks.script(name, Script(mode=mode, record=True))
        manifest = trigger(
            NAMESPACE,
            name,
            system.sinks.url(name),
            broker=name,
            delivery=delivery(retry=1, delay=DELAY, timeout="PT0.5S"),
        )
        system.establish(broker(NAMESPACE, name), manifest)
        assert system.send(numbered(system.seed, name, 0), f"/{NAMESPACE}/{name}") == 202
        dead = f"{group_of(system.get(manifest) or manifest)}.dead"
        wait_until(
            lambda dead=dead: len(system.log.records(dead)) == 1,  # type: ignore[misc]
            15.0,
            f"the event is in {dead}",
            every=0.2,
        )
        first, second = system.sinks.requests(name)
        assert 0.5 <= second.at - first.at < 3.0


@pytest.mark.clause("D14", "headers")
def test_request_has_knatives_headers(system: HeadraceUnderTest) -> None:
    """A delivery has `Prefer: reply`, the namespace and the received trace context; credentials of
    the sender are removed.
    """
    system.sinks.script("headers", Script(record=True))
    system.establish(
        broker(NAMESPACE, "headers"),
        trigger(NAMESPACE, "headers", system.sinks.url("headers"), broker="headers"),
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
    assert system.post(f"/{NAMESPACE}/headers", {**event, **more}, b"hello") == 202
    wait_until(lambda: system.sinks.requests("headers"), 15.0, "the event arrives")
    (request,) = system.sinks.requests("headers")
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
def test_old_version_is_delivered_unchanged(system: HeadraceUnderTest) -> None:
    """An event of CloudEvents 0.3 is accepted and not upgraded."""
    system.sinks.script("old", Script(record=True))
    system.establish(
        broker(NAMESPACE, "old"), trigger(NAMESPACE, "old", system.sinks.url("old"), broker="old")
    )
    event = {
        "ce-specversion": "0.3",
        "ce-id": "o1",
        "ce-source": "/s",
        "ce-type": "t",
        "content-type": "text/plain",
    }
    assert system.post(f"/{NAMESPACE}/old", event, b"old") == 202
    wait_until(lambda: system.sinks.requests("old"), 15.0, "the event arrives")
    (request,) = system.sinks.requests("old")
    assert request.headers["ce-specversion"] == "0.3"


def test_nothing_is_delivered_twice_without_faults(system: HeadraceUnderTest) -> None:
    """Every event is delivered once to each Trigger, also if both have the same subscriber."""
    system.establish(
        broker(NAMESPACE, "once"),
        *(trigger(NAMESPACE, f"once-{n}", system.sinks.url("once"), broker="once") for n in (1, 2)),
    )
    for counter in range(20):
        assert system.send(numbered(system.seed, "once", counter), f"/{NAMESPACE}/once") == 202
    wait_until(lambda: system.sinks.counts("once").get("accepted", 0) >= 40, 15.0, "40 deliveries")
    assert stays_true(lambda: system.sinks.counts("once")["accepted"] == 40, seconds=1.0)
