"""Detects that the Apache Kafka started by `headrace up` has exited. Nothing works without it, and
retries would hide the cause.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from headrace.runtime.service import Service

POLL_SECONDS = 0.5
STOP_SECONDS = 1.0
"""Time limit for each component to stop: Kafka will not answer anymore."""
LINE_CHARACTERS_MAX = 200


class MonitoredKafka(Protocol):
    """The methods used of `headrace.adapters.kafka.local.kafka_server.ApacheKafka`."""

    @property
    def log(self) -> Path:
        """The log file."""
        ...

    def exit_reason(self) -> str | None:
        """Return why it exited, or None while it runs."""
        ...

    def log_tail(self) -> list[str]:
        """Return the last relevant lines of the log."""
        ...


class KafkaMonitor:
    """A component of a service that stops the service, as failed, when the broker process has
    exited.
    """

    def __init__(
        self, kafka: MonitoredKafka, service: Service, *, say: Callable[[Sequence[str]], None]
    ) -> None:
        """`say` prints lines for the user."""
        self._kafka = kafka
        self._service = service
        self._say = say
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start monitoring."""
        self._poll()

    async def stop(self) -> None:
        """Stop. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _poll(self) -> None:
        death = self._kafka.exit_reason()
        if death is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)
            return
        self._say([f"{death}; stopping everything else."])
        self._service.give_up(death, seconds=STOP_SECONDS)


def exit_report(kafka: MonitoredKafka) -> list[str]:
    """Return a report about a broker that exited before this process, or an empty list if it did
    not.
    """
    death = kafka.exit_reason()
    if death is None:
        return []
    tail = [f"    {line[:LINE_CHARACTERS_MAX]}" for line in kafka.log_tail()]
    what = f"{death}, so everything here was stopped."
    return [
        f"{what} What was acknowledged is kept: start again to continue.",
        f"  Its log is {kafka.log}" + (", and ends with:" if tail else ""),
        *tail,
    ]
