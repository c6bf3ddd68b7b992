"""Errors of a consumer as alarms of its feed."""

from typing import NamedTuple

from confluent_kafka import KafkaError

from headrace.adapters.kafka.errors import is_denied, is_fatal, is_instance_fenced, is_missing
from headrace.domain.feed import AlarmKind


class ConsumerAlarm(NamedTuple):
    """An error of the client, as an alarm."""

    kind: AlarmKind
    detail: str
    fatal: bool = False
    """Whether the consumer cannot be used any longer."""


def consumer_alarm(error: KafkaError) -> ConsumerAlarm:
    """Return the alarm for an error, with the client's text (which contains addresses and names,
    but no payloads or secrets).
    """
    fenced = is_instance_fenced(error)
    fatal = fenced or is_fatal(error)
    if is_missing(error):
        kind = AlarmKind.TOPIC_MISSING
    elif is_denied(error):
        kind = AlarmKind.REFUSED
    elif fenced:
        kind = AlarmKind.FENCED
    else:
        kind = AlarmKind.REBUILT if fatal else AlarmKind.UNAVAILABLE
    return ConsumerAlarm(kind, f"{error.name()}: {error.str()}", fatal)
