"""Errors of a consumer as alarms of its feed."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException

from headrace.adapters.kafka.errors import is_denied, is_fatal, is_instance_fenced, is_missing
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.record import Partition

_ALARM_INTERVAL_SECONDS = 10.0

logger = structlog.get_logger(__name__)


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


class ConsumerFailed(Exception):
    """This consumer cannot be used any longer."""

    def __init__(self, alarm: ConsumerAlarm) -> None:
        super().__init__(alarm.detail)
        self.alarm = alarm


def failure_alarm(error: Exception, consumer: str) -> ConsumerAlarm:
    """Return the alarm for what has ended a consumer. An internal error is also logged, because it
    must not end deliveries silently.
    """
    if isinstance(error, ConsumerFailed):
        return error.alarm
    if isinstance(error, KafkaException):
        return consumer_alarm(error.args[0])
    logger.error(
        "consumer_thread_failed",
        consumer=consumer,
        error=repr(error),
        next_step="report this as a bug; a new consumer is created",
        exc_info=error,
    )
    detail = f"the consumer's thread failed with {type(error).__name__}"
    return ConsumerAlarm(AlarmKind.REBUILT, detail, fatal=True)


class AlarmReporter:
    """Reports the alarms of one feed. The same alarm (kind and partition) is reported at most every
    10 s, unless it has a count. Loop.
    """

    def __init__(self, group: str, alarm: Callable[[FeedAlarm], None]) -> None:
        self._group = group
        self._alarm = alarm
        self._loop = asyncio.get_running_loop()
        self._reported_at: dict[tuple[AlarmKind, Partition | None], float] = {}

    def report(
        self, kind: AlarmKind, detail: str, partition: Partition | None = None, count: int = 0
    ) -> None:
        """Report an alarm, unless it was reported a moment ago."""
        now = self._loop.time()
        if (
            count == 0
            and now - self._reported_at.get((kind, partition), -_ALARM_INTERVAL_SECONDS)
            < _ALARM_INTERVAL_SECONDS
        ):
            return
        self._reported_at[kind, partition] = now
        self._alarm(
            FeedAlarm(kind=kind, group=self._group, detail=detail, partition=partition, count=count)
        )
