"""What the consumer's errors mean for people: an alarm of a feed, and whether the consumer can go
on.
"""

from typing import NamedTuple

from confluent_kafka import KafkaError

from headrace.domain.feed import AlarmKind


class ConsumerAlarm(NamedTuple):
    """An error of the client, as an alarm."""

    kind: AlarmKind
    detail: str
    fatal: bool = False
    """Whether the consumer is of no more use."""


_KINDS = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: AlarmKind.TOPIC_MISSING,
    KafkaError._UNKNOWN_TOPIC: AlarmKind.TOPIC_MISSING,
    KafkaError._UNKNOWN_PARTITION: AlarmKind.TOPIC_MISSING,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: AlarmKind.REFUSED,
    KafkaError.GROUP_AUTHORIZATION_FAILED: AlarmKind.REFUSED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: AlarmKind.REFUSED,
    KafkaError.SASL_AUTHENTICATION_FAILED: AlarmKind.REFUSED,
    KafkaError._AUTHENTICATION: AlarmKind.REFUSED,
    KafkaError._SSL: AlarmKind.REFUSED,
    KafkaError.FENCED_INSTANCE_ID: AlarmKind.FENCED,
}


def consumer_alarm(error: KafkaError) -> ConsumerAlarm:
    """The alarm for an error, with the client's own words (which hold addresses and names, no
    payloads and no secrets).
    """
    # A consumer that is broken says `_FATAL` with the reason as text only.
    fatal = error.fatal() or error.code() in {KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID}
    kind = _KINDS.get(error.code())
    if kind is None and fatal:
        kind = AlarmKind.FENCED if "fenced" in error.str() else AlarmKind.REBUILT
    elif kind is None:
        kind = AlarmKind.UNAVAILABLE
    return ConsumerAlarm(kind, f"{error.name()}: {error.str()}", fatal)
