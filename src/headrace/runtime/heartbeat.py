"""Reports to the controller that a data plane process is alive and how much of the routing table it
has applied.

A resource becomes Ready, and a topic is deleted, only after every live process has reported the
change. So a change is reported immediately.

A report is a normal record, written once a second. So it also shows, without any traffic, whether
Kafka still stores what this process writes: `unacknowledged_since` is a readiness check.
"""

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from headrace.domain.backend_name import KAFKA
from headrace.domain.errors import HeadraceError, TopicMissing
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.ports import Clock, Instance, Instances, RoutingReader
from headrace.domain.source_report import SourceReport

logger = structlog.get_logger(__name__)

_EVERY_SECONDS: Final = 1.0
_REPORT_SECONDS: Final = 5.0
UNACKNOWLEDGED_SECONDS: Final = 7.0
"""The process is not ready if no report was stored for this time. A change of the partition's
leader takes 2 to 3 s, which is shorter.
"""


class Heartbeat:
    """Sends the reports of one process, from `start` to `stop`.

    `groups` returns the states of its subscriptions to report, `types` the observed event types to
    report next, `schema_faults` the events that did not conform to a schema, `sources` the sources
    that it runs.
    """

    def __init__(
        self,
        service: str,
        *,
        instance_id: str,
        instances: Instances,
        routes: RoutingReader,
        clock: Clock,
        groups: Callable[[], Mapping[str, str]] = dict,
        types: Callable[[], Sequence[ObservedEventType]] = tuple,
        schema_faults: Callable[[], Mapping[str, str]] = dict,
        sources: Callable[[], Mapping[str, SourceReport]] = dict,
    ) -> None:
        self._service = service
        self._id = instance_id
        self._instances = instances
        self._routes = routes
        self._clock = clock
        self._groups = groups
        self._types = types
        self._schema_faults = schema_faults
        self._sources = sources
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acknowledged_at: float | None = None
        routes.watch(self._on_change)

    async def start(self) -> None:
        """Start reporting. Idempotent."""
        if self._task is None:
            self._acknowledged_at = self._clock.monotonic()
            self._task = asyncio.create_task(self._report(), name=f"{self._service} presence")

    async def stop(self) -> None:
        """Stop reporting and deregister this process. Idempotent."""
        task, self._task = self._task, None
        self._acknowledged_at = None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.timeout(_REPORT_SECONDS):
                await self._instances.deregister(self._id)
        except (TimeoutError, HeadraceError) as error:
            logger.warning(
                "deregistration_failed",
                error=str(error) or "no answer in time",
                next_step="none: the controller considers this instance gone after 10 s",
            )

    def unacknowledged_since(self) -> str | None:
        """Return since when Kafka has stored no report, or None if it stored one recently. A check
        for `headrace.runtime.health`.
        """
        if self._acknowledged_at is None:
            return None
        seconds = self._clock.monotonic() - self._acknowledged_at
        if seconds < UNACKNOWLEDGED_SECONDS:
            return None
        since = datetime.fromtimestamp(self._clock.now() - seconds, UTC)
        return (
            f"Kafka has stored nothing from this process since {since:%Y-%m-%dT%H:%M:%SZ}"
            f" ({seconds:.0f} s)"
        )

    def report_soon(self) -> None:
        """Report at once: what is reported has changed."""
        self._changed.set()

    def _on_change(self, keys: Collection[str]) -> None:
        del keys
        self._changed.set()

    async def _report(self) -> None:
        while True:
            self._changed.clear()
            now_ms = int(self._clock.now() * 1000)
            report = Instance(
                self._id,
                self._service,
                self._routes.table.position,
                now_ms,
                dict(self._groups()),
                self._types(),
                self._routes.table.backends or (KAFKA,),
                dict(self._schema_faults()),
                dict(self._sources()),
            )
            try:
                async with asyncio.timeout(_REPORT_SECONDS):
                    await self._instances.report(report)
                self._acknowledged_at = self._clock.monotonic()
            except TopicMissing as error:
                # Kafka has answered; the controller will create the topic.
                self._acknowledged_at = self._clock.monotonic()
                self._log_failure(error, "none if a controller runs: it creates the topic")
            except (TimeoutError, HeadraceError) as error:
                self._log_failure(error, "check Kafka; a report is sent again every second")
            try:
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _log_failure(self, error: Exception, next_step: str) -> None:
        logger.warning(
            "heartbeat_failed",
            service=self._service,
            error=str(error) or "no answer in time",
            next_step=next_step,
        )


def instance_name(service: str) -> str:
    """Return a name for this process that is unique among all live processes."""
    return f"{service}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
