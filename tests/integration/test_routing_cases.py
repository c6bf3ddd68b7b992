"""Knative's routing cases with the running services: which of a Broker's Triggers get an event, and
where replies go.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.headrace_under_test import (
    HeadraceUnderTest,
    group_of,
    headrace_in,
    stays_true,
    wait_for_events,
)
from tests.support.ledger import headers_of, numbered
from tests.support.manifests import broker, delivery, trigger
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

pytestmark = pytest.mark.kafka
NAMESPACE = "routing"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUnderTest]:
    """One installation for all cases; each case has its own Broker."""
    with headrace_in(tmp_path_factory.mktemp("routing")) as started:
        yield started


A, B = {"type": "ledger.a"}, {"type": "ledger.b"}


@pytest.mark.clause("B2", "E3")
@pytest.mark.parametrize(
    ("name", "filters", "expected"),
    [
        ("one-open", [None], [True]),
        ("one-other", [B], [False]),
        ("one-match", [A], [True]),
        ("two-match", [A, {"type": "ledger.a", "subject": ""}], [True, True]),
        ("one-of-two", [A, B], [True, False]),
        ("two-open", [None, None], [True, True]),
    ],
)
def test_event_is_routed_to_every_matching_filter(
    system: HeadraceUnderTest,
    name: str,
    filters: list[Mapping[str, str] | None],
    expected: list[bool],
) -> None:
    """Every matching Trigger gets the event once; the others do not get it."""
    sinks = [f"{name}-{number}" for number in range(len(filters))]
    triggers = [
        trigger(NAMESPACE, sink, system.sinks.url(sink), broker=name, attributes=attributes)
        for sink, attributes in zip(sinks, filters, strict=True)
    ]
    system.establish(broker(NAMESPACE, name), *triggers)
    # Counter 0 has type a; a second event of type c, which only open filters match, ends the case:
    # an event that has not been delivered by then is not delivered at all.
    for counter in (0, 2):
        assert system.send(numbered(system.seed, name, counter), f"/{NAMESPACE}/{name}") == 202
    for sink, attributes, match in zip(sinks, filters, expected, strict=True):
        wait_for_events(system, sink, match + (attributes is None))
    assert stays_true(
        lambda: (
            [system.sinks.counts(sink).get("requests", 0) for sink in sinks]
            == [
                match + (attributes is None)
                for attributes, match in zip(filters, expected, strict=True)
            ]
        ),
        seconds=0.5,
    )


@pytest.mark.clause("filters")
@pytest.mark.parametrize(
    ("name", "filters", "counters"),
    [
        ("exact", [{"exact": {"type": "ledger.a"}}], {0, 3}),
        ("prefix", [{"prefix": {"type": "ledger."}}], {0, 1, 2, 3}),
        ("suffix", [{"suffix": {"type": ".c"}}], {2}),
        (
            "any",
            [{"any": [{"exact": {"type": "ledger.a"}}, {"exact": {"type": "ledger.b"}}]}],
            {0, 1, 3},
        ),
        ("all", [{"all": [{"prefix": {"type": "ledger."}}, {"suffix": {"id": ".3"}}]}], {3}),
        ("not", [{"not": {"exact": {"type": "ledger.a"}}}], {1, 2}),
        ("cesql", [{"cesql": "type = 'ledger.b' OR id LIKE '%.3'"}], {1, 3}),
        (
            "several",
            [{"prefix": {"type": "ledger."}}, {"not": {"suffix": {"type": "c"}}}],
            {0, 1, 3},
        ),
        ("absent", [{"exact": {"nosuchattribute": "x"}}], set()),
    ],
)
def test_each_dialect_filters_in_the_running_dispatcher(
    system: HeadraceUnderTest, name: str, filters: list[dict[str, Any]], counters: set[int]
) -> None:
    """Of four events of types a, b, c and a, exactly those that the dialect matches are
    delivered.
    """
    system.establish(
        broker(NAMESPACE, f"by-{name}"),
        trigger(
            NAMESPACE,
            f"by-{name}",
            system.sinks.url(f"by-{name}"),
            broker=f"by-{name}",
            filters=filters,
        ),
    )
    for counter in range(4):
        assert (
            system.send(numbered(system.seed, f"by-{name}", counter), f"/{NAMESPACE}/by-{name}")
            == 202
        )
    wait_for_events(system, f"by-{name}", len(counters))
    assert stays_true(
        lambda: system.sinks.counts(f"by-{name}").get("requests", 0) == len(counters), seconds=0.3
    )
    assert {
        int(arrival.event.rpartition(".")[2])
        for arrival in system.sinks.arrivals()
        if arrival.sink == f"by-{name}"
    } == counters


def test_filters_replace_filter(system: HeadraceUnderTest) -> None:
    """Non-empty `filters` replace `filter`; an empty list does not."""
    system.establish(
        broker(NAMESPACE, "both"),
        trigger(
            NAMESPACE,
            "both-1",
            system.sinks.url("both-1"),
            broker="both",
            attributes=A,
            filters=[{"exact": B}],
        ),
        trigger(
            NAMESPACE, "both-2", system.sinks.url("both-2"), broker="both", attributes=A, filters=[]
        ),
    )
    for counter in range(3):
        assert system.send(numbered(system.seed, "both", counter), f"/{NAMESPACE}/both") == 202
    for sink in ("both-1", "both-2"):
        wait_for_events(system, sink, 1)
    arrived = {
        arrival.sink: arrival.event
        for arrival in system.sinks.arrivals()
        if arrival.sink.startswith("both-")
    }
    assert arrived == {"both-1": "both.1", "both-2": "both.0"}


@pytest.mark.clause("D13", "E4")
def test_reply_is_an_event_of_the_broker(system: HeadraceUnderTest) -> None:
    """The reply of the first Trigger's subscriber matches the second Trigger and reaches it
    unchanged.
    """
    system.sinks.script("replying", Script(mode=Mode.REPLY))
    system.establish(
        broker(NAMESPACE, "reply"),
        trigger(NAMESPACE, "replying", system.sinks.url("replying"), broker="reply", attributes=A),
        trigger(
            NAMESPACE,
            "replies",
            system.sinks.url("replies"),
            broker="reply",
            attributes={"type": "ledger.reply"},
        ),
    )
    assert system.send(numbered(system.seed, "reply", 0), f"/{NAMESPACE}/reply") == 202
    wait_for_events(system, "replies", 1)
    (arrival,) = [arrival for arrival in system.sinks.arrivals() if arrival.sink == "replies"]
    assert (arrival.event, arrival.damage) == ("reply.0", None)


@pytest.mark.clause("D16")
def test_accepted_answer_is_never_a_reply(system: HeadraceUnderTest) -> None:
    """A 202 with an event in its body is a delivery without a reply."""
    reply = {
        "ce-specversion": "1.0",
        "ce-id": "x.0",
        "ce-source": "/x",
        "ce-type": "ledger.reply",
        "Content-Type": "text/plain",
    }
    system.sinks.script("accepting", Script(status=202, headers=reply, body="no reply"))
    system.establish(
        broker(NAMESPACE, "accept"),
        trigger(
            NAMESPACE, "accepting", system.sinks.url("accepting"), broker="accept", attributes=A
        ),
        trigger(
            NAMESPACE,
            "accept-replies",
            system.sinks.url("accept-replies"),
            broker="accept",
            attributes={"type": "ledger.reply"},
        ),
    )
    assert system.send(numbered(system.seed, "accept", 0), f"/{NAMESPACE}/accept") == 202
    wait_for_events(system, "accepting", 1)
    assert stays_true(lambda: not system.sinks.counts("accept-replies"), seconds=1.0)


def test_malformed_reply_is_a_failed_delivery(system: HeadraceUnderTest) -> None:
    """A 200 whose body is not an event is a failure, and the event is dead-lettered with that
    reason.
    """
    system.sinks.script(
        "malformed", Script(status=200, body="hello", headers={"Content-Type": "text/plain"})
    )
    manifest = trigger(
        NAMESPACE,
        "malformed",
        system.sinks.url("malformed"),
        broker="malformed",
        delivery=delivery(retry=1, delay="PT0.05S"),
    )
    system.establish(broker(NAMESPACE, "malformed"), manifest)
    assert system.send(numbered(system.seed, "malformed", 0), f"/{NAMESPACE}/malformed") == 202
    dead = f"{group_of(system.get(manifest) or manifest)}.dead"
    wait_until(
        lambda: len(system.log.records(dead)) == 1, 15.0, f"the event is in {dead}", every=0.2
    )


def test_reply_loop_ends(system: HeadraceUnderTest) -> None:
    """The hop count stops a subscriber that answers every event with a matching one, and the last
    event is kept.
    """
    system.sinks.script("looping", Script(mode=Mode.REPLY, reply_type="ledger.a"))
    manifest = trigger(
        NAMESPACE, "looping", system.sinks.url("looping"), broker="loop", attributes=A
    )
    system.establish(broker(NAMESPACE, "loop"), manifest)
    assert system.send(numbered(system.seed, "loop", 0), f"/{NAMESPACE}/loop") == 202

    def count() -> int:
        return system.sinks.counts("looping").get("requests", 0)

    seen: list[int] = []

    def at_rest() -> bool:
        seen.append(count())
        return len(seen) > 20 and seen[-1] == seen[-20] > 1

    wait_until(at_rest, 30.0, "the loop ends", every=0.1)
    assert 1 < count() <= 300


@pytest.mark.clause("D1")
def test_structured_event_is_the_same_event(system: HeadraceUnderTest) -> None:
    """An event posted in structured mode is delivered in binary mode with the same attributes and
    data.
    """
    system.sinks.script("structured", Script(record=True))
    system.establish(
        broker(NAMESPACE, "structured"),
        trigger(NAMESPACE, "structured", system.sinks.url("structured"), broker="structured"),
    )
    body = (
        b'{"specversion":"1.0","id":"s1","source":"/s","type":"t",'
        b'"datacontenttype":"text/plain","data":"hello"}'
    )
    assert (
        system.post(
            f"/{NAMESPACE}/structured", {"content-type": "application/cloudevents+json"}, body
        )
        == 202
    )
    wait_until(lambda: system.sinks.requests("structured"), 15.0, "the event arrives")
    (request,) = system.sinks.requests("structured")
    assert (request.headers["ce-id"], request.headers["content-type"], request.body) == (
        "s1",
        "text/plain",
        b"hello",
    )


def test_unknown_broker_is_not_found(system: HeadraceUnderTest) -> None:
    """An event for a Broker that does not exist gets 404."""
    headers = dict(
        line.split(": ", 1) for line in headers_of(numbered(1, "x", 0)).decode().splitlines()
    )
    assert system.post(f"/{NAMESPACE}/unknown", headers) == 404


def test_change_of_filter_loses_nothing(system: HeadraceUnderTest) -> None:
    """After the Trigger is Ready again, only the new filter applies."""
    first = trigger(
        NAMESPACE, "changing", system.sinks.url("changing"), broker="change", attributes=A
    )
    system.establish(broker(NAMESPACE, "change"), first)
    assert system.send(numbered(system.seed, "change", 0), f"/{NAMESPACE}/change") == 202
    wait_for_events(system, "changing", 1)
    system.establish(
        trigger(NAMESPACE, "changing", system.sinks.url("changing"), broker="change", attributes=B)
    )
    for counter in (3, 4):
        assert system.send(numbered(system.seed, "change", counter), f"/{NAMESPACE}/change") == 202
    wait_for_events(system, "changing", 2)
    assert [arrival.event for arrival in system.sinks.arrivals() if arrival.sink == "changing"] == [
        "change.0",
        "change.4",
    ]
