"""The fuzz targets: each reads arbitrary bytes and raises only the documented error of its reader.

Nothing here imports the fuzzer, so `test_corpus.py` replays the corpus on every platform.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from headrace.adapters.kafka.control import instances
from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.codec import delivery_state, http, json_event, kafka, objects, percent, routing
from headrace.codec.content_mode import mode
from headrace.domain import attributes, filters
from headrace.domain.cesql import ParseError, compile_expression, deciding_part, parse, render
from headrace.domain.cesql.budget import Metered
from headrace.domain.cesql.like import Pattern
from headrace.domain.event import BatchTooLarge, InvalidEvent, UnsupportedContent, Value
from headrace.domain.offsets import OffsetTracker
from headrace.domain.record import Record, StoredRecord
from headrace.domain.retry_after import retry_after_seconds
from headrace.domain.target_url import parse_target_url
from headrace.resources.durations import parse_duration
from headrace.resources.kinds import TRIGGER
from headrace_apiserver.requests.decoding import _parse_json
from headrace_apiserver.requests.selectors import read_fields, read_labels
from headrace_apiserver.schemas.cel_text import read_rule
from headrace_apiserver.statuses import StatusError
from headrace_ingress.route_cache import decode_host, decode_path

SECONDS_MAX = 0.25
"""CPU time that any input may take, however small; instrumented code is several times slower."""
SECONDS_PER_BYTE_MAX = 0.0001
"""Additional CPU time for each of its bytes."""

CENTURY_SECONDS = 100 * 365.2425 * 86_400

ARRIVAL = b"2026-11-24T08:00:00.123Z"
REQUIRED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
BINARY = [(b"ce-" + name.encode(), value.encode()) for name, value in REQUIRED.items()]
RECORD = [("ce_" + name, value.encode()) for name, value in REQUIRED.items()]
EVENT_FAULTS = (InvalidEvent, BatchTooLarge, UnsupportedContent)


class TooSlow(AssertionError):
    """An input took more CPU time than its size allows."""


@dataclass(frozen=True)
class Target:
    """A reader, and the errors that it raises for input that it rejects."""

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()
    bytes_max: int = 4_096

    def run(self, data: bytes) -> None:
        """Read it; raises any other error of the reader, and `TooSlow`."""
        least = self._timed(data)
        if least > (bound := SECONDS_MAX + SECONDS_PER_BYTE_MAX * len(data)):
            least = min(
                least, self._timed(data)
            )  # measured again: another process may have evicted the caches
            if least > bound:
                raise TooSlow(
                    f"{len(data)} bytes took {least:.3f} s, at most {bound:.3f} s are allowed"
                )

    def _timed(self, data: bytes) -> float:
        started = time.thread_time()
        with suppress(*self.refusals):
            self.read(data)
        return time.thread_time() - started


def _pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values from lines `name: value`."""
    return [
        (name.strip(), value)
        for name, _, value in (line.partition(b":") for line in data.split(b"\n"))
    ]


def _stored(headers: list[tuple[str, bytes]], value: bytes | None) -> StoredRecord:
    return StoredRecord("topic", 0, 0, 0, None, value, headers)


def _again(record: Record) -> None:
    """An accepted event is written in both formats and read back unchanged."""
    stored = _stored(list(record.headers), record.value)
    assert stored is kafka.normalise(stored)
    lines = http.write_binary(record.headers)
    fields = [tuple(line.split(b": ", 1)) for line in lines[:-2].split(b"\r\n")]
    again = http.read_binary(fields, record.value or b"", None)  # type: ignore[arg-type] # each line has one colon and space
    assert kafka.attributes(again.headers) == kafka.attributes(record.headers)
    http.write_structured(record.headers, record.value)


def _structured(data: bytes) -> None:
    for record in http.read(
        [(b"content-type", b"application/cloudevents+json")], data, arrival=ARRIVAL
    ):
        _again(record)


def _batch(data: bytes) -> None:
    for record in http.read(
        [(b"content-type", b"application/cloudevents-batch+json")],
        data,
        arrival=ARRIVAL,
        events_max=100,
    ):
        _again(record)


def _binary(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    for record in http.read([*BINARY, *_pairs(head.lower())], body, arrival=ARRIVAL):
        _again(record)


def _reply(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    reply = http.read_reply(200, _pairs(head.lower()), body)
    if reply is not None:
        _again(reply)


def _record(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    headers = [*RECORD, *((name.decode("latin-1"), value) for name, value in _pairs(head))]
    normal = kafka.normalise(_stored(headers, body))
    filters.compile([{"exact": {"type": "t"}}]).matches(kafka.attributes(normal.headers))
    http.write_binary(normal.headers)
    http.write_structured(normal.headers, normal.value)


def _delivery_state(data: bytes) -> None:
    headers = [(name.decode("latin-1"), value) for name, value in _pairs(data)]
    delivery_state.read_hops(headers)
    state = delivery_state.read(headers)
    assert delivery_state.read(delivery_state.write(headers, state)).origin == state.origin


def _json_event(data: bytes) -> None:
    event = json_event.read(data)
    again = json_event.read(json_event.write(event))
    # A batch and a JSON text may write the same value in two ways; the attributes are the same.
    assert (
        dict(again.attributes) == {"datacontenttype": "application/json", **event.attributes}
        or again.attributes == event.attributes
    )


def _cesql(data: bytes) -> None:
    text, _, value = data.decode("utf-8", "replace").partition("\n")
    expression = compile_expression(text)
    event: dict[str, Value] = {**REQUIRED, "a": value, "b": 7, "c": True}
    expression.evaluate(event)
    deciding_part(expression, event)
    assert parse(render(expression.node)) == expression.node
    filters.compile([{"cesql": text}]).explain(event)


def _like(data: bytes) -> None:
    pattern, _, text = data.decode("utf-8", "replace").partition("\n")
    compiled = Pattern(pattern)
    steps = compiled.steps(len(text))
    meter = Metered({}, steps)
    # The estimated cost is sufficient, and metering changes nothing.
    assert compiled.metered_matcher()(text, meter) == compiled.matcher()(text)


def _filters(data: bytes) -> None:
    entries = json.loads(data.decode("utf-8", "replace"))
    filters.validate(entries, "spec.filters")
    filters.compile(entries).explain(dict(REQUIRED))


def _attributes(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for version in attributes.SPEC_VERSIONS:
        for name in attributes.rules(version):
            attributes.value_fault(attributes.rules(version), name, text)
    attributes.name_fault(text)
    attributes.is_timestamp(text)


def _waits(data: bytes) -> None:
    waited = retry_after_seconds(data, 1_800_000_000.0)
    assert waited is None or waited >= 0.0
    text = data.decode("utf-8", "replace")
    assert abs(parse_duration(text)) <= CENTURY_SECONDS


def _routing(data: bytes) -> None:
    entry = routing.read("subscription/uid", data)
    if entry is not None:
        assert routing.read("subscription/uid", routing.write(entry)) == entry


def _commit_metadata(data: bytes) -> None:
    tracker = OffsetTracker(5, data.decode("latin-1"))
    tracker.metadata()


def _addresses(data: bytes) -> None:
    path = decode_path(data)
    assert path is None or path.startswith("/")
    decode_host(data)
    with suppress(ValueError):
        parse_target_url(data.decode("latin-1"))


def _selectors(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with suppress(StatusError):
        read_labels(text)
    read_fields(text, TRIGGER, ("spec.broker",))


TARGETS: dict[str, Target] = {
    "structured": Target(_structured, EVENT_FAULTS),
    "batch": Target(_batch, EVENT_FAULTS),
    "binary": Target(_binary, EVENT_FAULTS),
    "reply": Target(_reply, EVENT_FAULTS),
    "record": Target(_record, EVENT_FAULTS),
    "delivery_state": Target(_delivery_state, (delivery_state.InvalidDeliveryState,)),
    "json_event": Target(_json_event, EVENT_FAULTS),
    "cesql": Target(_cesql, (ParseError, filters.InvalidFilter)),
    "like": Target(_like),
    "filters": Target(_filters, (filters.InvalidFilter, ValueError, RecursionError)),
    "attributes": Target(_attributes, (InvalidEvent,)),
    "media": Target(mode, EVENT_FAULTS),
    "percent": Target(
        lambda data: percent.decode(percent.encode(percent.decode(data).encode())), (ValueError,)
    ),
    "waits": Target(_waits, (ValueError,), 128),
    "routing": Target(_routing, (routing.BadRoutingRecord,)),
    "instances": Target(instances.read),
    "commit_metadata": Target(_commit_metadata),
    "addresses": Target(_addresses),
    "object": Target(objects.read_object, (objects.InvalidObject,)),
    "selectors": Target(_selectors, (StatusError,)),
    "cel_rule": Target(lambda data: read_rule(data.decode("utf-8", "replace")), (ValueError,)),
    "manifest": Target(lambda data: read_manifests(data, "body"), (InvalidManifest,)),
    "api_json": Target(_parse_json, (StatusError,)),
}
"""By name, which is also the directory of the seeds in `corpus`."""
