"""One source in this process: runs its adapter, restarts it, and keeps what is reported of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import ValidationError

from headrace.adapters.http.client_options import AddressPolicy
from headrace.domain.backoff import Backoff
from headrace.domain.ports import Clock, SourceLeases
from headrace.domain.routing import EventSource
from headrace.domain.source_report import SourceCondition, SourceReport
from headrace.runtime.tasks import end_task
from headrace_sources.api_server import ApiServer
from headrace_sources.emitter import Emitter, EmitterContext
from headrace_sources.metrics import SourceMetrics
from headrace_sources.receiver import Receiver
from headrace_sources.registry import AdapterEntry, Placement
from headrace_sources.secrets import Secrets
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import (
    DEPLOYED,
    NotDelivered,
    SecretKeyRef,
    Source,
    SourceFault,
    WebhookHandler,
)

logger = structlog.get_logger(__name__)

BACKOFF: Final = Backoff((1.0, 2.0, 4.0, 8.0, 16.0, 30.0))
HEALTHY_SECONDS: Final = 60.0
"""A source that ran for so long before it failed is started again as after its first failure."""
PROVEN_SECONDS: Final = 3.0
"""How long an attempt after a failure runs before the condition that failed may be better, unless
the adapter reports that it is.
"""
DELIVERY_HEALTHY: Final = "DeliveryHealthy"
FAILURE_SHOWN_SECONDS: Final = 600.0
_MESSAGE_MAX: Final = 600
_STARTING: Final = SourceCondition(None, "Starting", "the source is being started")
_READY: Final = SourceCondition(True)


@dataclass(frozen=True, slots=True)
class SourceServices:
    """What the sources of one process share."""

    emitters: EmitterContext
    secrets: Secrets
    leases: SourceLeases
    receiver: Receiver
    clock: Clock
    address_denied: AddressPolicy
    settings: SourcesSettings
    api_server: ApiServer | None = None


class RunningSource:
    """Implements `headrace_sources.source.SourceContext`, and runs the source that uses it."""

    def __init__(
        self,
        services: SourceServices,
        entry: AdapterEntry | None,
        source: EventSource,
        metrics: SourceMetrics,
        changed: Callable[[], None],
    ) -> None:
        """`entry` is None for an adapter that this version does not know. `changed` is called when
        there is something new to report.
        """
        self._changed = changed
        self.route = source
        self._services = services
        self._entry = entry
        self.metrics = metrics
        exclusive = entry is None or entry.placement is Placement.ONE_PROCESS
        self.emitter = Emitter(
            services.emitters,
            source,
            metrics,
            may_emit=(lambda: services.leases.holds(source.uid)) if exclusive else lambda: True,
        )
        self._conditions = {DEPLOYED: _STARTING}
        self._failed = ""
        self._held_back: SourceCondition | None = None
        self._fields: dict[str, Any] = {}
        self._finalized = False
        self._restart = asyncio.Event()
        self._leads = asyncio.Event()
        self._wants_lead = False
        self.running = False
        self._task: asyncio.Task[None] | None = None

    # For the supervisor.

    def start(self) -> None:
        """Begin to run."""
        name = f"source {self.namespace}/{self.name}"
        self._task = asyncio.create_task(self._live(), name=name)

    async def stop(self) -> None:
        """End the adapter. Events that are on their way are given up."""
        task, self._task = self._task, None
        await end_task(task)
        self._services.secrets.forget(self.uid)
        self.emitter.close()

    def update(self, source: EventSource) -> bool:
        """Take a new record; False if the source has to be created again for it."""
        if source is self.route:
            return True
        if source.adapter != self.route.adapter or source.finalizing != self.route.finalizing:
            return False
        restart = source.config != self.route.config
        self.route = source
        self.emitter.update(source)
        if restart:
            # What was reported is not true of the new configuration before that was tried.
            self._conditions = {DEPLOYED: _STARTING}
            self._failed, self._held_back = "", None
            self._restart.set()
        self._changed()
        return True

    def on_leases_changed(self) -> None:
        """The lease of this source may have been acquired or released."""
        holds = self._services.leases.holds(self.uid)
        if holds:
            self._leads.set()
        elif self._leads.is_set():
            self._leads.clear()
            if self._wants_lead:
                # What it reported as the process that had the lease is the next one's to say.
                self._fields.clear()
                self._conditions = {DEPLOYED: self._conditions[DEPLOYED]}
                self._restart.set()

    @property
    def state(self) -> SourceReport:
        """What is reported to the controller."""
        conditions = dict(self._conditions)
        emitter, now = self.emitter, self._services.clock.monotonic()
        if emitter.failure and now - emitter.failed_at < FAILURE_SHOWN_SECONDS:
            conditions[DELIVERY_HEALTHY] = SourceCondition(
                False, "NotDelivered", emitter.failure[:_MESSAGE_MAX]
            )
        return SourceReport(
            self.route.generation, conditions, dict(self._fields), finalized=self._finalized
        )

    # The context of the adapter.

    @property
    def namespace(self) -> str:
        """See `SourceContext`."""
        return self.route.namespace

    @property
    def name(self) -> str:
        """See `SourceContext`."""
        return self.route.name

    @property
    def uid(self) -> str:
        """See `SourceContext`."""
        return self.route.uid

    @property
    def clock(self) -> Clock:
        """See `SourceContext`."""
        return self._services.clock

    @property
    def address_denied(self) -> AddressPolicy:
        """See `SourceContext`."""
        return self._services.address_denied

    @property
    def settings(self) -> SourcesSettings:
        """See `SourceContext`."""
        return self._services.settings

    @property
    def published(self) -> Mapping[str, Any]:
        """See `SourceContext`."""
        merged = {**self.route.published, **self._fields}
        return {name: value for name, value in merged.items() if value is not None}

    @property
    def cursor(self) -> str | None:
        """See `SourceContext`."""
        return self._services.leases.cursor(self.uid)

    async def save_cursor(self, cursor: str) -> None:
        """See `SourceContext`."""
        await self._services.leases.save_cursor(self.uid, cursor)

    def report(
        self, condition: str, status: bool | None, reason: str = "", message: str = ""
    ) -> None:
        """See `SourceContext`."""
        found = SourceCondition(status, reason, message[:_MESSAGE_MAX])
        if status is None and condition == self._failed:
            self._held_back = found
        else:
            self._set_condition(condition, found)

    def publish(self, **fields: Any) -> None:
        """See `SourceContext`."""
        if any(self._fields.get(name, _ABSENT) != value for name, value in fields.items()):
            self._fields.update(fields)
            self._changed()

    async def secret(self, reference: SecretKeyRef) -> bytes:
        """See `SourceContext`."""
        return await self._services.secrets.read(
            self.namespace, reference, self.uid, self._restart.set
        )

    async def lead(self) -> None:
        """See `SourceContext`."""
        self._wants_lead = True
        await self._leads.wait()

    @property
    def api_server(self) -> ApiServer | None:
        """See `SourceContext`."""
        return self._services.api_server

    @contextmanager
    def receive(self, handler: WebhookHandler) -> Iterator[str]:
        """See `SourceContext`."""
        with self._services.receiver.handle(self.namespace, self.name, handler) as url:
            yield url

    # Its life.

    def _set_condition(self, condition: str, found: SourceCondition) -> None:
        if condition == self._failed:
            self._failed, self._held_back = "", None
        if self._conditions.get(condition) != found:
            self._conditions[condition] = found
            self._changed()

    def _report_attempt(self) -> None:
        """Report that the adapter runs: at once, but after a failure not before that is proven.
        Otherwise the condition would change twice with each attempt.
        """
        if self._failed == DEPLOYED:
            self._held_back = _READY
        else:
            self._set_condition(DEPLOYED, _READY)

    def _report_held_back(self) -> None:
        """The attempt has not failed at once: what it has reported is true."""
        if self._held_back is not None:
            self._set_condition(self._failed, self._held_back)
        self._failed = ""

    async def _live(self) -> None:
        failures = 0
        while True:
            self._restart.clear()
            self._wants_lead = False
            # The emitter knows whether events are delivered.
            self._conditions.pop(DELIVERY_HEALTHY, None)
            self.on_leases_changed()
            started = self.clock.monotonic()
            fault = await self._run_until_restart()
            if fault is None:
                # It has nothing more to do, or it has to be started again, which is at once.
                await self._restart.wait()
                continue
            if self.clock.monotonic() - started > HEALTHY_SECONDS:
                failures = 0
            failures += 1
            self.metrics.restarts.value += 1
            wait = BACKOFF.seconds(failures)
            self.report(fault.condition, False, fault.reason, str(fault))
            self._failed, self._held_back = fault.condition, None
            logger.warning(
                "source_failed",
                kind=self.route.kind,
                namespace=self.namespace,
                name=self.name,
                reason=fault.reason,
                error=str(fault),
                next_step=f"it is started again in {wait:g} s",
            )
            try:
                async with asyncio.timeout(wait):
                    await self._restart.wait()
            except TimeoutError:
                continue

    async def _run_until_restart(self) -> SourceFault | None:
        """Run the adapter once. Return its fault, None if it ended or has to be started again."""
        run = asyncio.create_task(self._run_once(), name=f"adapter of {self.name}")
        restart = asyncio.create_task(self._restart.wait())
        try:
            tasks, first = {run, restart}, asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait(tasks, timeout=PROVEN_SECONDS, return_when=first)
            if not done:
                self._report_held_back()
                await asyncio.wait(tasks, return_when=first)
            if not run.done():
                return None
            fault = run.result()
            if fault is None:
                self._report_held_back()
            return fault
        finally:
            self.running = False
            for task in (run, restart):
                task.cancel()
            await asyncio.wait({run, restart})

    async def _run_once(self) -> SourceFault | None:
        try:
            source = self._create()
            if self.route.finalizing:
                await self._finalize(source)
                return None
            self.running = True
            self._report_attempt()
            await source.run(self.emitter)
        except SourceFault as fault:
            return fault
        except NotDelivered as error:
            return SourceFault("NotDelivered", str(error), condition=DELIVERY_HEALTHY)
        except Exception as error:
            logger.exception(
                "adapter_failed",
                namespace=self.namespace,
                name=self.name,
                error=str(error) or type(error).__name__,
            )
            return SourceFault(
                "AdapterFailed",
                f"the adapter {self.route.adapter} has failed: {type(error).__name__}; see the log"
                " of the sources service",
            )
        return None

    def _create(self) -> Source:
        if self._entry is None:
            raise SourceFault(
                "UnknownAdapter",
                f"this version of the sources service has no adapter {self.route.adapter[:100]}",
            )
        adapter = self._entry.load()
        try:
            config = adapter.Config.model_validate(dict(self.route.config))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5]
            )
            raise SourceFault("InvalidConfiguration", problems[:_MESSAGE_MAX]) from None
        return adapter(config, self)

    async def _finalize(self, source: Source) -> None:
        finalize = getattr(source, "finalize", None)
        if finalize is not None:
            await finalize()
        self._finalized = True
        self._changed()


_ABSENT: Final = object()
