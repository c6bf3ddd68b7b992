"""Routing records as JSON: round trips, records of newer and older controllers, stored records.

The stored records keep the bytes of this version for tests of later versions.
"""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.codec.routing import RECORD_BYTES_MAX, BadRoutingRecord, apply, read, write
from headrace.domain.delivery import BackoffPolicy, DeliveryPolicy
from headrace.domain.record import StoredRecord
from headrace.domain.routing import (
    Addressable,
    Delays,
    DelayTier,
    DeliveryOrder,
    Destination,
    EventSchema,
    Format,
    RemovedRoute,
    Reply,
    Route,
    RoutingTable,
    SchemaValidation,
    Subscription,
    concerns_ingress,
    route_key,
)

STORED = Path(__file__).with_name("records-v1.jsonl")

BROKER = Addressable(
    uid="b1",
    generation=2,
    epoch=7,
    namespace="default",
    name="default",
    topic="knative-broker-default-default",
    paths=("/default/default",),
    hosts=("default-kn-channel.default.svc.cluster.local",),
    event_bytes_max=983_040,
)
TRIGGER = Subscription(
    uid="t1",
    generation=3,
    epoch=7,
    namespace="default",
    name="orders-ü",
    topic="knative-broker-default-default",
    group="knative-trigger-default-orders",
    retry_topic="knative-trigger-default-orders.retry",
    dead_topic="knative-trigger-default-orders.dead",
    subscriber=Destination(
        url="http://127.0.0.1:9000/orders",
        ca_certs="-----BEGIN CERTIFICATE-----",
        audience="orders",
    ),
    filters=({"exact": {"type": "order.created"}}, {"not": {"cesql": "subject LIKE 'test%'"}}),
    reply=Reply(topic="knative-broker-default-default"),
    delivery=DeliveryPolicy(
        retry=0,
        timeout_seconds=5,
        backoff=BackoffPolicy.LINEAR,
        delay_seconds=1.5,
        retry_after_max_seconds=0,
    ),
    dead_letter_sink=Destination(url="http://127.0.0.1:9000/dead"),
    order=DeliveryOrder.ORDERED,
    format=Format.JSON,
    breaker=False,
)
PLAIN = Subscription(
    uid="s1",
    generation=1,
    epoch=1,
    namespace="a",
    name="b",
    topic="t",
    group="g",
    retry_topic="g.retry",
    dead_topic="g.dead",
    subscriber=Destination(url="http://x"),
    reply=Reply(url="http://y"),
)
DELAYS = Delays(
    generation=1,
    epoch=7,
    group="headrace.delays",
    tiers=(
        DelayTier(seconds=10, topic="headrace.delay.10s"),
        DelayTier(seconds=60, topic="headrace.delay.1m"),
    ),
)
ROUTES: list[Route] = [BROKER, TRIGGER, PLAIN, DELAYS]


def _stored(offset: int, key: bytes | None, value: bytes | None) -> StoredRecord:
    return StoredRecord("headrace.routing", 0, offset, 0, key, value, ())


@pytest.mark.parametrize("route", ROUTES, ids=route_key)
def test_a_route_is_read_as_it_was_written(route: Route) -> None:
    """Every member is kept, and the bytes are the same each time."""
    assert route == read(route_key(route), write(route))
    assert write(route) == write(route)


def test_the_bytes_of_version_1_are_read_and_written_as_ever() -> None:
    """The stored file is what released controllers have written. Never change the file for the
    code.
    """
    lines = [json.loads(line) for line in STORED.read_text(encoding="utf-8").splitlines()]
    assert ROUTES == [read(line["key"], line["value"].encode()) for line in lines]
    assert [line["value"].encode() for line in lines] == [write(route) for route in ROUTES]


def test_a_reply_to_a_url_has_what_a_destination_has() -> None:
    """Readers of the previous version ignore these members; without them there is nothing to
    write.
    """
    reply = Reply(url="https://y", ca_certs="-----BEGIN CERTIFICATE-----", audience="me")
    route = replace(PLAIN, reply=reply)
    assert route == read("subscription/s1", write(route))
    expected = {"url": "https://y", "caCerts": reply.ca_certs, "audience": "me"}
    assert expected == json.loads(write(route))["reply"]
    assert {"url": "http://y"} == json.loads(write(PLAIN))["reply"]


def test_members_of_a_newer_controller_are_ignored() -> None:
    """They are ignored at every level."""
    members = json.loads(write(TRIGGER))
    members["future"] = {"x": 1}
    members["subscriber"]["future"] = True
    members["delivery"]["future"] = []
    assert TRIGGER == read("subscription/t1", json.dumps(members).encode())


def test_missing_optional_members_have_their_defaults() -> None:
    """A record of an older controller, or one that omits default values, has the same meaning."""
    members = json.loads(write(PLAIN))
    addressable = json.loads(write(BROKER))
    del addressable["eventBytesMax"]
    assert BROKER == read("addressable/b1", json.dumps(addressable).encode())
    for name in ("filters", "delivery", "order", "format", "breaker"):
        del members[name]
    assert PLAIN == read("subscription/s1", json.dumps(members).encode())


def test_kinds_and_versions_of_the_future_are_skipped() -> None:
    """They are not errors: processes of the next version read them."""
    assert read("policy/x", b'{"v":1,"kind":"policy","uid":"x"}') is None
    assert read("addressable/b1", b'{"v":2,"kind":"addressable","anything":"goes"}') is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be an object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"v":1,"kind":"addressable"}', "uid must be a string"),
        (
            write(BROKER).replace(b'"generation":2', b'"generation":"2"'),
            "generation must be an integer",
        ),
        (
            write(BROKER).replace(b'"paths":["/default/default"]', b'"paths":[1]'),
            "paths must hold strings",
        ),
        (
            write(TRIGGER).replace(b'"order":"ordered"', b'"order":"sorted"'),
            "'sorted' is not a valid DeliveryOrder",
        ),
        (
            write(TRIGGER).replace(b'"timeoutSeconds":5', b'"timeoutSeconds":-5'),
            "timeoutSeconds must be a number of seconds",
        ),
        (
            write(TRIGGER).replace(b'"reply":{', b'"reply":{"url":"http://z",'),
            "exactly one of them",
        ),
        (b" " * (RECORD_BYTES_MAX + 1), "at most 262144"),
    ],
)
def test_a_damaged_record_is_refused_by_name(value: bytes, message: str) -> None:
    """The error names the key and the member."""
    with pytest.raises(BadRoutingRecord, match=message) as raised:
        read("some/key", value)
    assert str(raised.value).startswith("some/key: ")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_it_raise_anything_else(value: bytes) -> None:
    """A reader continues, whatever the topic contains."""
    with contextlib.suppress(BadRoutingRecord):
        read("k", value)


def test_a_table_keeps_its_last_good_record() -> None:
    """Damaged, unknown and outdated records only change the position.

    A tombstone removes the record.
    """
    table = RoutingTable()
    key = route_key(BROKER).encode()
    older = json.loads(write(BROKER)) | {"epoch": 6}
    applied = apply(
        table, [_stored(0, key, write(BROKER)), _stored(3, None, b"x"), _stored(4, b"gone", None)]
    )
    assert ({"addressable/b1"}, {}) == (applied.changed, applied.ignored)
    for offset, value in enumerate((b"{", b'{"v":9}', json.dumps(older).encode()), start=5):
        applied = apply(table, [_stored(offset, key, value)])
        assert (set(), ["addressable/b1"]) == (applied.changed, list(applied.ignored))
        assert (BROKER, offset) == (table.get("addressable/b1"), table.position)
    assert {"addressable/b1"} == apply(table, [_stored(9, key, None)]).changed
    assert table.get("addressable/b1") is None


REMOVED = b'{"v":1,"kind":"removed","epoch":7}'


def test_a_removal_is_read_and_written_as_ever() -> None:
    """Its bytes are those of version 1.

    A reader of the previous version skips the kind, and removes the route at the tombstone that
    follows.
    """
    assert REMOVED == write(RemovedRoute(epoch=7))
    assert RemovedRoute(epoch=7) == read("addressable/b1", REMOVED)


@pytest.mark.parametrize(
    "value", [b'{"v":1,"kind":"removed"}', b'{"v":1,"kind":"removed","epoch":"7"}']
)
def test_a_removal_without_epoch_is_refused(value: bytes) -> None:
    """It removes nothing, because it is unknown which controller wrote it."""
    table = RoutingTable()
    key = route_key(BROKER)
    apply(table, [_stored(0, key.encode(), write(BROKER)), _stored(1, key.encode(), value)])
    assert BROKER == table.get(key)


def test_a_removal_counts_when_its_epoch_does() -> None:
    """A removal with an older epoch is ignored; one with the same or a newer epoch is applied.

    Records with an older epoch that follow an applied removal are ignored.
    """
    table, key = RoutingTable(), route_key(BROKER).encode()
    older = write(RemovedRoute(epoch=6))
    apply(table, [_stored(0, key, write(BROKER))])
    applied = apply(table, [_stored(1, key, older)])
    assert (set(), {"addressable/b1": "an older controller wrote it"}) == (
        applied.changed,
        applied.ignored,
    )
    assert {} == table.removed_routes
    assert {"addressable/b1"} == apply(table, [_stored(2, key, REMOVED)]).changed
    assert (None, {"addressable/b1": 7}) == (table.get("addressable/b1"), table.removed_routes)
    assert table.addressable("/default/default", "") is None
    put_late = json.dumps(json.loads(write(BROKER)) | {"epoch": 6}).encode()
    assert ["addressable/b1"] == list(
        apply(table, [_stored(3, key, put_late), _stored(4, key, older)]).ignored
    )
    assert {"addressable/b1": 7} == table.removed_routes
    assert {"addressable/b1"} == apply(table, [_stored(5, key, write(BROKER))]).changed
    assert {} == table.removed_routes


def test_a_tombstone_removes_and_forgets() -> None:
    """The tombstone may follow a removal.

    A controller of the previous version writes only the tombstone.
    """
    table, key = RoutingTable(), route_key(BROKER).encode()
    applied = apply(
        table, [_stored(0, key, write(BROKER)), _stored(1, key, REMOVED), _stored(2, key, None)]
    )
    assert ({"addressable/b1"}, {}) == (applied.changed, applied.ignored)
    assert ({}, 2) == (table.removed_routes, table.position)
    assert {"addressable/b1"} == apply(table, [_stored(3, key, write(BROKER))]).changed
    assert {"addressable/b1"} == apply(table, [_stored(4, key, None)]).changed
    assert table.get("addressable/b1") is None


def test_a_record_that_asks_for_types_says_so_and_others_say_nothing() -> None:
    """A reader of the previous version ignores the member.

    The bytes of records that do not ask for event types are unchanged.
    """
    plain = Addressable(uid="u", generation=1, epoch=1, namespace="n", name="b", topic="t")
    asking = replace(plain, event_types=True)
    assert b"eventTypes" not in write(plain)
    assert b'"eventTypes":true' in write(asking)
    for entry in (plain, asking):
        assert entry == read("addressable/u", write(entry))


def test_the_form_of_the_records_is_said_if_it_is_not_binary() -> None:
    """So the bytes of all other records are unchanged."""
    plain = Addressable(uid="u", generation=1, epoch=1, namespace="n", name="b", topic="t")
    structured = replace(plain, format=Format.JSON)
    assert b"format" not in write(plain)
    assert b'"format":"json"' in write(structured)
    for entry in (plain, structured):
        assert entry == read("addressable/u", write(entry))


def test_the_kind_of_the_resource_is_a_label_that_older_records_lack() -> None:
    """`kind` is the kind of the record; the kind of the resource is in a separate member."""
    plain = Addressable(uid="u", generation=1, epoch=1, namespace="n", name="b", topic="t")
    labelled = replace(plain, kind="Broker")
    assert b"resourceKind" not in write(plain)
    assert b'"resourceKind":"Broker"' in write(labelled)
    for entry in (plain, labelled, replace(TRIGGER, kind="Trigger")):
        assert entry == read("key", write(entry))


SCHEMA = EventSchema(
    uid="e1",
    generation=1,
    epoch=7,
    namespace="default",
    name="orders",
    addressable="b1",
    type="order.created",
    source="/shop/{id}",
    dataschema="http://schemas/1",
    schema='{"title":"ü \\"quoted\\"","minimum":1.5}',
)


def test_a_schema_is_written_and_read() -> None:
    """As a JSON value, so that it takes no more room than its text; readers of the version before
    skip it.
    """
    written = write(SCHEMA)
    assert SCHEMA == read(route_key(SCHEMA), written)
    assert SCHEMA.schema.encode() in written
    assert len(written) - len(SCHEMA.schema.encode()) < 250
    plain = replace(SCHEMA, source="", dataschema="", schema="true")
    assert plain == read("schema/e1", write(plain))
    with pytest.raises(BadRoutingRecord, match="schema must be an object, true or false"):
        read("schema/e1", write(SCHEMA).replace(b'"schema":{', b'"schema":1,"x":{'))


def test_the_mode_of_checks_is_written_when_it_is_on() -> None:
    """A mode of a later version is off: events must not be refused for it."""
    assert b"validation" not in write(BROKER)
    checked = replace(BROKER, validation=SchemaValidation.WARN)
    assert checked == read("addressable/b1", write(checked))
    later = write(checked).replace(b'"warn"', b'"quarantine"')
    assert BROKER == read("addressable/b1", later)


def test_the_table_has_the_schemas_of_each_addressable() -> None:
    """Sorted, so that the same records give the same order."""
    table = RoutingTable()
    others = [replace(SCHEMA, uid=name) for name in ("z", "a")]
    for each in (*others, replace(SCHEMA, addressable="other")):
        table.apply(route_key(each), each)
    assert ["a", "z"] == [each.uid for each in table.schemas()["b1"]]
    assert {"b1", "other"} == set(table.schemas())
    assert concerns_ingress("schema/a") and concerns_ingress("addressable/b1")
    assert not concerns_ingress("subscription/t1")


def test_a_reply_to_a_topic_has_no_certificates() -> None:
    """Found by fuzzing: the record was read with them, and written without."""
    record = {"v": 1, **json.loads(write(TRIGGER)), "reply": {"topic": "t", "caCerts": "pem"}}
    found = read("subscription/t1", json.dumps(record).encode())
    assert isinstance(found, Subscription)
    assert Reply(topic="t") == found.reply


def test_a_schema_with_a_number_that_json_does_not_have_is_rejected() -> None:
    """`1e999` is infinite in Python."""
    record = (
        '{"v":1,"kind":"schema","uid":"u","generation":1,"epoch":1,"namespace":"n","name":"e",'
        '"addressable":"a","type":"t","schema":{"maximum":1e999}}'
    )
    with pytest.raises(BadRoutingRecord):
        read("schema/u", record.encode())
