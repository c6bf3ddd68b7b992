"""What a Kafka error means to Headrace: the one place where librdkafka's codes become errors of the
domain.
"""

from typing import Final

from confluent_kafka import KafkaError

from headrace.domain.errors import (
    Conflict,
    Fenced,
    HeadraceError,
    LogFull,
    LogUnavailable,
    NotFound,
    RecordTooLarge,
    TopicMissing,
    WriteRefused,
)

_MISSING: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})
_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.FENCED_INSTANCE_ID}
)
_RETRIABLE: Final = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._DESTROY,
        KafkaError._FATAL,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._STATE,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        # What brokers and clients know of a topic that was just made does not agree for a moment.
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)
"""Errors after which the same call may succeed. A fatal error of one producer is among them: the
next producer is a new one.
"""


def write_error(error: KafkaError, *, topic: str, size: int, size_max: int) -> HeadraceError:
    """The domain's error for a record of `size` bytes that was not stored in `topic`.

    `size_max` is named when the client refused the record; a broker does not say its limit, so its
    refusal names the size as too much.
    """
    code = error.code()
    if code in _TOO_LARGE:
        return RecordTooLarge(size, min(size_max, size - 1))
    if code in _MISSING:
        return TopicMissing(topic)
    if code == KafkaError._QUEUE_FULL:
        return LogFull(topic, size_max)
    return call_error(error, f"topic {topic}")


def call_error(error: KafkaError, what: str) -> HeadraceError:
    """The domain's error for a failed call about `what` (a topic, a group, the cluster), which the
    message names.
    """
    code, text = error.code(), f"{what}: {error.str()} ({error.name()})"
    if code in _FENCED:
        return Fenced(text)
    if code in _RETRIABLE or error.retriable() or error.fatal():
        return LogUnavailable(text)
    if code in _MISSING or code == KafkaError.GROUP_ID_NOT_FOUND:
        return NotFound(text)
    if code == KafkaError.TOPIC_ALREADY_EXISTS:
        return Conflict(text)
    return WriteRefused(text)
