"""Private headers of a record in a retry, delay or dead letter topic.

The state of a delivery is stored with its event and nowhere else, so a restart, a rebalance or
another process continues where the last attempt ended. All names start with `headrace_`; they are
stripped at the ingress and never sent to a subscriber.
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
"""What the dead letter sink answered when it rejected this dead letter."""
COPY_OF = "headrace_copy_of"
"""`topic/partition/offset` of the dead letter that a record with `SINK` copies."""
REASON_BYTES_MAX = 512
_KEPT = frozenset({HOPS, CHAIN})
_CHAIN_BYTES_MAX = 512
_ERRORS = frozenset({"ce_knativeerrordest", "ce_knativeerrorcode", "ce_knativeerrordata"})


class InvalidDeliveryState(ValueError):
    """The record lacks a private header that its topic requires, or has a malformed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """The state of one delivery between two attempts."""

    subscription: str
    """Uid; a record found under another subscription is not delivered there."""
    origin: str
    """`topic/partition/offset` of the event in its channel."""
    attempt: int
    """Attempts made so far."""
    first_failure_ms: int
    dead_topic: str
    due_ms: int = 0
    reason: str = ""
    reply: bytes | None = None
    """The reply still to be delivered, as a JSON event; then the subscriber itself is not called
    again.
    """
    reply_attempts: int = 0
    """Attempts made so far at a reply that did not fit beside its event; those at the next reply of
    the subscriber continue that count.
    """


def write(headers: Headers, state: DeliveryState) -> list[tuple[str, bytes]]:
    """The event's headers with this state in place of an older one; the headers of the chain of
    replies stay.
    """
    kept = [header for header in headers if not header[0].startswith(PREFIX) or header[0] in _KEPT]
    kept += [
        ("headrace_subscription", state.subscription.encode()),
        (ORIGIN, state.origin.encode()),
        ("headrace_attempt", b"%d" % state.attempt),
        ("headrace_first_failure", b"%d" % state.first_failure_ms),
        ("headrace_dead", state.dead_topic.encode()),
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
    """The headers of a dead letter: `write`, and the error extensions in place of those of an
    earlier death.
    """
    replaced = _ERRORS.union(name for name, _ in errors)
    return [*errors, *(header for header in write(headers, state) if header[0] not in replaced)]


def write_rejected(headers: Headers, position: str, answer: str) -> list[tuple[str, bytes]]:
    """The headers of a dead letter that its sink rejected: its own, with the `answer` of the sink
    and the `position` of the letter.
    """
    kept = [header for header in headers if header[0] not in (SINK, COPY_OF)]
    return [
        *kept,
        (SINK, answer.encode("utf-8", "replace")[:REASON_BYTES_MAX]),
        (COPY_OF, position.encode()),
    ]


def is_rejected(headers: Headers) -> bool:
    """Whether this record of a dead letter topic only says that the sink rejected a letter."""
    return any(name == SINK for name, _ in headers)


def read(headers: Iterable[tuple[str, bytes]]) -> DeliveryState:
    """The state written by `write`. Raises `InvalidDeliveryState`, naming the header that is
    missing or malformed.
    """
    found = {name: value for name, value in headers if name.startswith(PREFIX)}
    return DeliveryState(
        subscription=_text(found, "headrace_subscription"),
        origin=_text(found, ORIGIN),
        attempt=_number(found, "headrace_attempt"),
        first_failure_ms=_number(found, "headrace_first_failure"),
        dead_topic=_text(found, "headrace_dead"),
        due_ms=_number(found, "headrace_due"),
        reason=found.get("headrace_reason", b"").decode("utf-8", "replace"),
        reply=found.get(REPLY),
        reply_attempts=_number(found, REPLY_ATTEMPTS) if REPLY_ATTEMPTS in found else 0,
    )


def read_hops(headers: Iterable[tuple[str, bytes]]) -> int:
    """How many replies led to this event; 0 for one that came from outside."""
    for name, value in headers:
        if name == HOPS:
            return int(value) if value.isdigit() and len(value) < 10 else 0
    return 0


def read_chain(headers: Iterable[tuple[str, bytes]]) -> str:
    """Which subscriptions' replies led to this event, as `headrace.domain.reply_loops` writes it;
    empty for one that came from outside.
    """
    for name, value in headers:
        if name == CHAIN:
            return value.decode("ascii", "replace") if len(value) <= _CHAIN_BYTES_MAX else ""
    return ""


def origin_position(origin: str) -> tuple[int, int] | None:
    """Partition and offset of an origin (`topic/partition/offset`); None when it is not one."""
    numbers = origin.split("/")[1:]
    if len(numbers) != 2 or not all(
        each.isascii() and each.isdigit() and len(each) < 20 for each in numbers
    ):
        return None
    return int(numbers[0]), int(numbers[1])


def read_position(headers: Iterable[tuple[str, bytes]]) -> tuple[int, int] | None:
    """The place in its channel of the event in a parked record; None when the record does
    not say.
    """
    origin = next((value for name, value in headers if name == ORIGIN), b"")
    return origin_position(origin.decode("ascii", "replace"))


def _text(found: dict[str, bytes], name: str) -> str:
    try:
        text = found[name].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise InvalidDeliveryState(f"private header {name} is missing or not UTF-8") from error
    if (
        not text or not text.isprintable()
    ):  # The client takes no topic name with a null character: it would end the turn of a reader.
        raise InvalidDeliveryState(f"private header {name} is empty or not printable")
    return text


def _number(found: dict[str, bytes], name: str) -> int:
    value = found.get(name, b"")
    if not value.isdigit() or len(value) > 18:
        raise InvalidDeliveryState(f"private header {name} is missing or not a number")
    return int(value)
