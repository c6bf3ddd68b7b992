"""Notices that the Apache Kafka which `headrace up` started has ended: without it nothing works,
and trying on would hide why.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from headrace.runtime.service import Service

POLL_SECONDS = 0.5
STOP_SECONDS = 1.0
"""For each part to stop in: what it would wait for will not come."""
LINE_CHARACTERS_MAX = 200


class MonitoredKafka(Protocol):
    """What is asked of `headrace.adapters.kafka.local.kafka_server.ApacheKafka`."""

    @property
    def log(self) -> Path:
        """What it says."""
        ...

    def exit_reason(self) -> str | None:
        """How it ended, None while it runs."""
        ...

    def log_tail(self) -> list[str]:
        """The last lines worth reading."""
        ...


class KafkaMonitor:
    """A part of a service: ends it, as failed, when the broker's process is gone."""

    def __init__(
        self, kafka: MonitoredKafka, service: Service, *, say: Callable[[Sequence[str]], None]
    ) -> None:
        """`say` shows lines to people."""
        self._kafka = kafka
        self._service = service
        self._say = say
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._poll()

    async def stop(self) -> None:
        """End. Idempotent."""
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
    """The report about a broker that exited before this process: nothing when it
    did not.
    """
    death = kafka.exit_reason()
    if death is None:
        return []
    words = [f"    {line[:LINE_CHARACTERS_MAX]}" for line in kafka.log_tail()]
    return [
        (
            f"{death}, so everything here was stopped. What was acknowledged is kept: start again"
            " to continue."
        ),
        f"  Its log is {kafka.log}" + (", and ends with:" if words else ""),
        *words,
    ]
