"""Private headers of records in retry, delay and dead letter topics.

The state of a delivery is stored only in the record of its event, so after a restart or a rebalance
any process can continue where the last attempt ended. All names start with `headrace_`. The ingress
strips these headers, and they are never sent to a subscriber.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.domain.record import Headers

PREFIX = "headrace_"
HOPS = "headrace_hops"
CHAIN = "headrace_chain"
ORIGIN = "headrace_origin"
REPLY = "headrace_reply"
REPLY_ATTEMPTS = "headrace_reply_attempts"
SINK = "headrace_sink"
"""The answer of the dead letter sink that rejected this dead letter."""
COPY_OF = "headrace_copy_of"
"""`topic/partition/offset` of the dead letter that a record with `SINK` copies."""
TRACE = "headrace_trace"
"""The failed attempt after which the record was stored, as a `traceparent`, where traces are
recorded. The event's own `traceparent` stays as it is.
"""
DEAD_TOPIC = "headrace_dead"
REASON_BYTES_MAX = 512
_KEPT = frozenset({HOPS, CHAIN})
_CHAIN_BYTES_MAX = 512
_ERRORS = frozenset({"ce_knativeerrordest", "ce_knativeerrorcode", "ce_knativeerrordata"})


class InvalidDeliveryState(ValueError):
    """A private header that the record's topic requires is missing or malformed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """The state of one delivery between two attempts."""

    subscription: str
    """The uid. A subscription does not deliver a record that has another uid."""
    origin: str
    """`topic/partition/offset` of the event in its channel."""
    attempt: int
    """Attempts made so far."""
    first_failure_ms: int
    dead_topic: str
    due_ms: int = 0
    reason: str = ""
    reply: bytes | None = None
    """The reply that is still to be delivered, as a JSON event. If it is set, the subscriber is not
    called again.
    """
    reply_attempts: int = 0
    """Attempts made so far to deliver a reply that was too large to store with its event. Attempts
    for the subscriber's next reply continue this count.
    """


def write(headers: Headers, state: DeliveryState) -> list[tuple[str, bytes]]:
    """Return the event's headers with this state, which replaces an older state.

    The headers that describe the chain of replies are kept.
    """
    kept = [header for header in headers if not header[0].startswith(PREFIX) or header[0] in _KEPT]
    kept += [
        ("headrace_subscription", state.subscription.encode()),
        (ORIGIN, state.origin.encode()),
        ("headrace_attempt", b"%d" % state.attempt),
        ("headrace_first_failure", b"%d" % state.first_failure_ms),
        (DEAD_TOPIC, state.dead_topic.encode()),
        ("headrace_due", b"%d" % state.due_ms),
    ]
    if state.reason:
        kept.append(("headrace_reason", state.reason.encode("utf-8", "replace")[:REASON_BYTES_MAX]))
    if state.reply_attempts:
        kept.append((REPLY_ATTEMPTS, b"%d" % state.reply_attempts))
    if state.reply is not None:
        kept.append((REPLY, state.reply))
    return kept


def write_dead_letter(
    headers: Headers, state: DeliveryState, errors: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter: those of `write`, and the error extensions.

    Error extensions from an earlier dead letter of this event are replaced.
    """
    replaced = _ERRORS.union(name for name, _ in errors)
    return [*errors, *(header for header in write(headers, state) if header[0] not in replaced)]


def write_rejected(headers: Headers, position: str, answer: str) -> list[tuple[str, bytes]]:
    """Return the headers of the copy of a dead letter that its sink rejected.

    These are the headers of the dead letter, the `answer` of the sink, and the `position` of the
    dead letter.
    """
    kept = [header for header in headers if header[0] not in (SINK, COPY_OF)]
    return [
        *kept,
        (SINK, answer.encode("utf-8", "replace")[:REASON_BYTES_MAX]),
        (COPY_OF, position.encode()),
    ]


def is_rejected(headers: Headers) -> bool:
    """Return whether this record of a dead letter topic only reports that the sink rejected one."""
    return any(name == SINK for name, _ in headers)


def read(headers: Iterable[tuple[str, bytes]]) -> DeliveryState:
    """Return the state that `write` wrote.

    Raises `InvalidDeliveryState`, which names the header that is missing or malformed.
    """
    found = {name: value for name, value in headers if name.startswith(PREFIX)}
    return DeliveryState(
        subscription=_text(found, "headrace_subscription"),
        origin=_text(found, ORIGIN),
        attempt=_number(found, "headrace_attempt"),
        first_failure_ms=_number(found, "headrace_first_failure"),
        dead_topic=_text(found, DEAD_TOPIC),
        due_ms=_number(found, "headrace_due"),
        reason=found.get("headrace_reason", b"").decode("utf-8", "replace"),
        reply=found.get(REPLY),
        reply_attempts=_number(found, REPLY_ATTEMPTS) if REPLY_ATTEMPTS in found else 0,
    )


def read_hops(headers: Iterable[tuple[str, bytes]]) -> int:
    """Return how many replies led to this event; 0 for an event that came from outside."""
    for name, value in headers:
        if name == HOPS:
            return int(value) if value.isdigit() and len(value) < 10 else 0
    return 0


def read_chain(headers: Iterable[tuple[str, bytes]]) -> str:
    """Return which subscriptions' replies led to this event.

    The format is that of `headrace.domain.reply_loops`. Empty for an event that came from outside.
    """
    for name, value in headers:
        if name == CHAIN:
            return value.decode("ascii", "replace") if len(value) <= _CHAIN_BYTES_MAX else ""
    return ""


def origin_position(origin: str) -> tuple[int, int] | None:
    """Return partition and offset of an origin (`topic/partition/offset`).

    None if the origin is malformed.
    """
    numbers = origin.split("/")[1:]
    if len(numbers) != 2 or not all(
        each.isascii() and each.isdigit() and len(each) < 20 for each in numbers
    ):
        return None
    return int(numbers[0]), int(numbers[1])


def read_position(headers: Iterable[tuple[str, bytes]]) -> tuple[int, int] | None:
    """Return partition and offset in its channel of the event of a retry or dead letter record.

    None if the record does not contain them.
    """
    origin = next((value for name, value in headers if name == ORIGIN), b"")
    return origin_position(origin.decode("ascii", "replace"))


def _text(found: dict[str, bytes], name: str) -> str:
    try:
        text = found[name].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise InvalidDeliveryState(f"private header {name} is missing or not UTF-8") from error
    # The Kafka client rejects a topic name with a null character, which would fail the reader.
    if not text or not text.isprintable():
        raise InvalidDeliveryState(f"private header {name} is empty or not printable")
    return text


def _number(found: dict[str, bytes], name: str) -> int:
    value = found.get(name, b"")
    if not value.isdigit() or len(value) > 18:
        raise InvalidDeliveryState(f"private header {name} is missing or not a number")
    return int(value)
