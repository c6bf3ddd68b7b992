"""What the consumer's errors mean for people: an alarm of a feed, and whether the consumer can go on."""

from typing import NamedTuple

from confluent_kafka import KafkaError

from headrace.domain.feed import AlarmKind


class Complaint(NamedTuple):
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


def complaint(error: KafkaError) -> Complaint:
    """The alarm for an error, with the client's own words (which hold addresses and names, no payloads and no secrets)."""
    kind = _KINDS.get(error.code())
    if kind is None:
        kind = AlarmKind.REBUILT if error.fatal() else AlarmKind.UNAVAILABLE
    fatal = error.fatal() or kind is AlarmKind.FENCED
    return Complaint(kind, f"{error.name()}: {error.str()}", fatal)
