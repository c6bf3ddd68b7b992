"""Logs failed deliveries of one subscription, at most one of each event name in ten seconds.

A line names the event (id and trace), the attempt and the reason, so that one failed event can be
followed through logs, traces and the subscriber's own log. It has no part of the payload.
"""

from typing import Final

import structlog

from headrace.codec import trace_context
from headrace.domain.delivery import DeadLetterReason
from headrace.domain.ports import Clock
from headrace.domain.record import StoredRecord
from headrace.domain.routing import Subscription
from headrace_dispatcher.log_limit import LogLimit

INTERVAL_SECONDS: Final = 10.0
_ID_CHARACTERS_MAX: Final = 200
_ID: Final = "ce_id"

logger = structlog.get_logger(__name__)


class FailedDeliveryLog:
    """Writes `delivery_failed` and `event_dead_lettered`. `suppressed` is the number of lines with
    the same name since the last one.
    """

    def __init__(self, clock: Clock) -> None:
        self._limit = LogLimit(clock, INTERVAL_SECONDS)

    def retry(
        self,
        subscription: Subscription,
        record: StoredRecord,
        *,
        attempt: int,
        url: str,
        error: str,
        seconds: float,
    ) -> None:
        """An attempt failed and is repeated after `seconds`."""
        if self._limit.passes("delivery_failed"):
            logger.warning(
                "delivery_failed",
                **self._fields("delivery_failed", subscription, record, attempt, url),
                error=error,
                retry_in_seconds=round(seconds, 3),
            )

    def dead_letter(
        self,
        subscription: Subscription,
        record: StoredRecord,
        *,
        attempt: int,
        url: str,
        reason: DeadLetterReason,
        error: str,
    ) -> None:
        """An event becomes a dead letter."""
        if self._limit.passes("event_dead_lettered"):
            logger.warning(
                "event_dead_lettered",
                **self._fields("event_dead_lettered", subscription, record, attempt, url),
                reason=reason.value,
                error=error,
                next_step="headrace dead-letters shows it; it is kept in its topic",
            )

    def _fields(
        self,
        event: str,
        subscription: Subscription,
        record: StoredRecord,
        attempt: int,
        url: str,
    ) -> dict[str, str | int]:
        fields: dict[str, str | int] = {
            "kind": subscription.kind,
            "namespace": subscription.namespace,
            "name": subscription.name,
            "event_id": _event_id(record),
            "attempt": attempt,
            "url": url.partition("?")[0],
        }
        position = trace_context.find(record.headers)
        if position is not None:
            fields["trace_id"] = f"{position.trace_id:032x}"
        return fields | self._limit.suppressed(event)


def _event_id(record: StoredRecord) -> str:
    value = next((value for name, value in record.headers if name == _ID), b"")
    return value.decode("utf-8", "replace")[:_ID_CHARACTERS_MAX]
