"""Durable consumers and streams, as the feed and the admin ask for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.names import durable_name, stream_name

SECOND_NS: Final = 1_000_000_000
ACK_WAIT_SECONDS: Final = 10.0
"""After this time without an acknowledgement or a sign of progress a record is delivered again."""
_ACK_PENDING_MAX: Final = 65_536
_WAITING_MAX: Final = 4_096
"""Pull requests that wait, of all members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """A stream as it is now."""

    id: str
    """Its time of creation."""
    first_offset: int
    """Of the oldest record, or of the next one if there is none."""
    end_offset: int
    """The offset after the last record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """A durable consumer as it is now."""

    ack_wait_seconds: float
    committed: int
    """Every record below this offset is acknowledged."""
    delivered: int
    """The offset after the highest record delivered."""
    deliveries: int
    """How many deliveries there were, repeated ones included."""
    unread: int
    """Records that were never delivered."""
    unacknowledged: int
    waiting: int
    """Pull requests that wait."""


async def stream_state(connection: NatsConnection, topic: str) -> StreamState:
    """Return the state of a topic's stream. Raises `ApiError`, `LogUnavailable`."""
    answer = await connection.call(f"STREAM.INFO.{stream_name(topic)}", what=f"topic {topic}")
    state: Mapping[str, Any] = answer["state"]
    return StreamState(
        id=str(answer["created"]),
        first_offset=max(int(state["first_seq"]) - 1, 0),
        end_offset=int(state["last_seq"]),
    )


async def consumer_state(
    connection: NatsConnection, group: str, topic: str
) -> ConsumerState | None:
    """Return the state of a group's durable consumer, None if there is none. Raises `ApiError` (the
    stream is missing), `LogUnavailable`.
    """
    try:
        answer = await connection.call(
            f"CONSUMER.INFO.{stream_name(topic)}.{durable_name(group)}", what=f"group {group}"
        )
    except ApiError as error:
        if error.missing and not error.stream_missing:
            return None
        raise
    return _consumer_state(answer)


async def create_consumer(
    connection: NatsConnection, group: str, topic: str, offset: int
) -> ConsumerState:
    """Create a group's durable consumer that begins at an offset. Raises `ApiError`,
    `LogUnavailable`.
    """
    stream, durable = stream_name(topic), durable_name(group)
    answer = await connection.call(
        f"CONSUMER.DURABLE.CREATE.{stream}.{durable}",
        {
            "stream_name": stream,
            "config": {
                "durable_name": durable,
                "ack_policy": "explicit",
                "ack_wait": int(ACK_WAIT_SECONDS * SECOND_NS),
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": offset + 1,
                "max_deliver": -1,
                "max_ack_pending": _ACK_PENDING_MAX,
                "max_waiting": _WAITING_MAX,
                "replay_policy": "instant",
            },
        },
        what=f"group {group}",
    )
    return _consumer_state(answer)


async def create_reader(connection: NatsConnection, topic: str, offset: int) -> str:
    """Create a consumer without acknowledgements that delivers every record from an offset on in
    order, and return its name. The server removes it when it is not used for a while. Raises
    `ApiError`, `LogUnavailable`.
    """
    stream = stream_name(topic)
    answer = await connection.call(
        f"CONSUMER.CREATE.{stream}",
        {
            "stream_name": stream,
            "config": {
                "ack_policy": "none",
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": offset + 1,
                "inactive_threshold": 60 * SECOND_NS,
                "mem_storage": True,
                "num_replicas": 1,
                "replay_policy": "instant",
            },
        },
        what=f"topic {topic}",
    )
    return str(answer["name"])


def _consumer_state(answer: Mapping[str, Any]) -> ConsumerState:
    delivered: Mapping[str, Any] = answer["delivered"]
    config: Mapping[str, Any] = answer["config"]
    return ConsumerState(
        ack_wait_seconds=int(config.get("ack_wait") or 0) / SECOND_NS or ACK_WAIT_SECONDS,
        committed=int(answer["ack_floor"]["stream_seq"]),
        delivered=int(delivered["stream_seq"]),
        deliveries=int(delivered["consumer_seq"]),
        unread=int(answer["num_pending"]),
        unacknowledged=int(answer["num_ack_pending"]),
        waiting=int(answer.get("num_waiting", 0)),
    )
