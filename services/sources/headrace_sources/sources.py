"""The sources of this process: follows the routing table and the leases, and runs what they say."""

import asyncio
from collections.abc import Collection, Coroutine, Mapping

import structlog

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Instances, RoutingReader
from headrace.domain.routing import EventSource, concerns_sources, uid_of_source
from headrace.domain.source_report import SourceReport
from headrace.runtime.heartbeat import Heartbeat
from headrace.runtime.metrics import Metrics
from headrace.runtime.retry import retry_until_success
from headrace_sources.metrics import SourcesMetrics
from headrace_sources.registry import ADAPTERS, AdapterEntry, Placement
from headrace_sources.running_source import RunningSource, SourceServices

logger = structlog.get_logger(__name__)

FIRST_TRY_SECONDS = 10.0
STOP_SECONDS = 6.0


class Sources:
    """A component of a service: runs the sources of the routing table."""

    def __init__(
        self,
        *,
        instance_id: str,
        services: SourceServices,
        routes: RoutingReader,
        instances: Instances,
        metrics: Metrics,
        adapters: Mapping[str, AdapterEntry] = ADAPTERS,
    ) -> None:
        self._services = services
        self._routes = routes
        self._adapters = adapters
        self._metrics = SourcesMetrics(metrics)
        metrics.before_scrape(self._update_gauges)
        self.running: dict[str, RunningSource] = {}
        """By uid."""
        self._stopping_uids: dict[str, asyncio.Task[None]] = {}
        self._deleted: dict[str, Mapping[str, str]] = {}
        """Their names by uid, for the log; none of a source that did not run here."""
        """Deleted sources whose cursors are still to be dropped."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._reason: str | None = "still starting"
        self._preparing: asyncio.Task[None] | None = None
        self._heartbeat = Heartbeat(
            "sources",
            instance_id=instance_id,
            instances=instances,
            routes=routes,
            clock=services.clock,
            sources=self._reports,
        )
        routes.watch(self._on_routes_changed)

    def not_ready(self) -> str | None:
        """Why the sources do not run yet. A check for `headrace.runtime.health`."""
        return self._reason

    def unacknowledged_since(self) -> str | None:
        """Since when Kafka has stored nothing. A check for `headrace.runtime.health`."""
        return self._heartbeat.unacknowledged_since()

    async def start(self) -> None:
        """Read the routing table and run what is in it. If Kafka does not answer within 10 s, that
        continues in the background.
        """
        self._preparing = asyncio.create_task(self._prepare(), name="sources prepare")
        await asyncio.wait({self._preparing}, timeout=FIRST_TRY_SECONDS)

    async def _prepare(self) -> None:
        self._reason = "the routing table has not been read to its end"
        await retry_until_success(self._routes.start, waiting=self._wait)
        await self._heartbeat.start()
        await self._services.leases.start(self)
        self._reason = None
        self._apply()

    def _wait(self, reason: str) -> None:
        self._reason = reason

    async def drain(self) -> None:
        """End all adapters. What they have not reported to the outside as taken is read again."""
        self._stopping = True
        self._reason = "draining"
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)
        await self._stop_all(list(self.running))

    async def stop(self) -> None:
        """Release the leases and stop reading the routing table."""
        await self.drain()
        await self._services.leases.stop()
        await self._heartbeat.stop()
        await self._routes.stop()

    # Implements `headrace.domain.ports.LeaseListener`.

    def on_acquired(self) -> None:
        """See the port."""
        self._on_leases_changed()

    async def on_released(self) -> None:
        """See the port."""
        self._on_leases_changed()
        if self._stopping_uids:
            await asyncio.wait(list(self._stopping_uids.values()), timeout=STOP_SECONDS)

    def _on_leases_changed(self) -> None:
        for each in self.running.values():
            each.on_leases_changed()
        self._apply()

    # What runs.

    def _on_routes_changed(self, keys: Collection[str]) -> None:
        changed = [key for key in keys if concerns_sources(key)]
        for key in changed:
            if self._routes.table.get(key) is None:
                uid = uid_of_source(key)
                running = self.running.get(uid)
                self._deleted[uid] = _names(running) if running is not None else {"uid": uid}
        if changed:
            self._apply()

    def _apply(self) -> None:
        """Start, change and stop sources, so that what runs is what should run."""
        if self._stopping or self._reason is not None:
            return
        wanted = {each.uid: each for each in self._routes.table.sources() if self._runs_here(each)}
        for uid in [uid for uid in self.running if uid not in wanted]:
            self._begin_stop(uid)
        for uid, source in wanted.items():
            present = self.running.get(uid)
            if present is not None and not present.update(source):
                self._begin_stop(uid)
                present = None
            if present is None and uid not in self._stopping_uids:
                self._start(source)
        holds = self._services.leases.holds
        self._deleted = {uid: names for uid, names in self._deleted.items() if holds(uid)}
        for uid in self._deleted.keys() - self._stopping_uids.keys():
            names = self._deleted.pop(uid)
            if self._services.leases.cursor(uid) is not None:
                self._spawn(self._forget_cursor(uid, names))

    async def _forget_cursor(self, uid: str, names: Mapping[str, str]) -> None:
        """Drop the cursor of a deleted source."""
        try:
            await self._services.leases.save_cursor(uid, None)
        except HeadraceError as error:
            logger.warning("cursor_not_removed", **names, error=str(error))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _runs_here(self, source: EventSource) -> bool:
        if source.paused:
            return False
        entry = self._adapters.get(source.adapter)
        every = entry is not None and entry.placement is Placement.EVERY_PROCESS
        return (every and not source.finalizing) or self._services.leases.holds(source.uid)

    def _start(self, source: EventSource) -> None:
        running = RunningSource(
            self._services,
            self._adapters.get(source.adapter),
            source,
            self._metrics.of(source),
            self._heartbeat.report_soon,
        )
        self.running[source.uid] = running
        running.start()
        logger.info(
            "source_started", kind=source.kind, namespace=source.namespace, name=source.name
        )

    def _begin_stop(self, uid: str) -> None:
        running = self.running.pop(uid)
        task = asyncio.create_task(self._stop(running), name=f"stop source {running.name}")
        self._stopping_uids[uid] = task
        task.add_done_callback(lambda _: self._after_stop(uid))

    async def _stop(self, running: RunningSource) -> None:
        try:
            await running.stop()
        except Exception:
            logger.exception("source_not_stopped", **_names(running))
        self._metrics.remove(running.metrics)
        logger.info("source_stopped", **_names(running))

    def _after_stop(self, uid: str) -> None:
        self._stopping_uids.pop(uid, None)
        self._heartbeat.report_soon()
        self._apply()

    async def _stop_all(self, uids: Collection[str]) -> None:
        for uid in uids:
            self._begin_stop(uid)
        if self._stopping_uids:
            await asyncio.wait(list(self._stopping_uids.values()), timeout=STOP_SECONDS)

    def _reports(self) -> Mapping[str, SourceReport]:
        return {uid: each.state for uid, each in self.running.items()}

    def _update_gauges(self) -> None:
        for each in self.running.values():
            self._metrics.running.labels(*each.metrics.labels).set(each.running)
            self._metrics.in_flight.labels(*each.metrics.labels).set(each.emitter.in_flight)


def _names(running: RunningSource) -> Mapping[str, str]:
    """The fields by which the log names a source: an operator does not know its uid."""
    return {"kind": running.route.kind, "namespace": running.namespace, "name": running.name}
