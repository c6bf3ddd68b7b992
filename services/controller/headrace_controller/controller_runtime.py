"""Store, routing table and reconcile loop as one component of a service: the controller without an
API of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from headrace.domain.backend_name import JETSTREAM, KAFKA
from headrace.domain.errors import Temporary
from headrace.domain.ports import Clock, Instances, RoutingReader, RoutingWriter
from headrace.resources.control_ports import ResourceStore, TopicAdmin
from headrace.runtime.kafka_metrics import measure_kafka
from headrace.runtime.metrics import Metrics
from headrace.runtime.retry import retry_until_success
from headrace.runtime.service import Component
from headrace_controller.backend_by_name import create_backend
from headrace_controller.event_schema_reader import Fetch, refuse_to_fetch
from headrace_controller.metrics import register_controller_metrics
from headrace_controller.plan_executor import RecordEvent
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import Installation
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.reconcile_loop import ReconcileLoop
from headrace_controller.subscriber_lists import Admit, admit_unchanged
from headrace_controller.topic_purge import TopicPurger

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerBackends:
    """The backends of a controller. `parts` start before it, in this order, and stop after it."""

    store: ResourceStore
    admin: TopicAdmin
    routes: RoutingWriter
    routing: RoutingReader
    instances: Instances
    jetstream_admin: TopicAdmin | None = None
    """None if no NATS server is configured."""
    parts: tuple[tuple[str, Component], ...] = ()

    @property
    def admins(self) -> Mapping[str, TopicAdmin]:
        """The administration of topics, by backend."""
        others = {} if self.jetstream_admin is None else {JETSTREAM: self.jetstream_admin}
        return {KAFKA: self.admin, **others}


def _log_unavailable(backend: str, error: str) -> None:
    logger.warning(
        "backend_unavailable",
        backend=backend,
        error=error,
        next_step="none, if it comes back: what is in this backend is not changed meanwhile",
    )


class ControllerRuntime:
    """A component of a service. The caller starts and stops `parts`."""

    def __init__(
        self,
        installation: Installation,
        backends: ControllerBackends,
        *,
        clock: Clock,
        metrics: Metrics | None = None,
        reconcilers: Reconcilers = RECONCILERS,
        record_event: RecordEvent = lambda *_: None,
        admit: Admit = admit_unchanged,
        fetch_schema: Fetch = refuse_to_fetch,
    ) -> None:
        self._store = backends.store
        self._routing = backends.routing
        self._started = False
        self._reason = "resources are being read"
        self.loop = ReconcileLoop(
            installation=installation,
            store=backends.store,
            backend=create_backend(
                backends.admin,
                clock,
                jetstream=backends.jetstream_admin,
                log_unavailable=_log_unavailable,
            ),
            routing=backends.routing,
            routes=backends.routes,
            instances=backends.instances,
            clock=clock,
            reconcilers=reconcilers,
            record_event=record_event,
            admit=admit,
            fetch_schema=fetch_schema,
        )
        self._purger = TopicPurger(store=backends.store, admins=backends.admins)
        if metrics is not None:
            register_controller_metrics(metrics, backends.store, self.loop)
            measure_kafka(metrics, "controller", backends.routing.table, None)

    def not_ready(self) -> str | None:
        """Why resources cannot be read; None if they can. A standby reads, and is ready."""
        return self._store.last_error if self._started else self._reason

    async def start(self) -> None:
        """Read resources and the routing table, then reconcile. Waits while they cannot be read;
        `not_ready` says why.
        """
        for start in (self._store.start, self._routing.start):
            await retry_until_success(
                start, waiting=self._wait, what="not all can be read yet", retry_on=Temporary
            )
        await self.loop.start()
        await self._purger.start()
        self._started = True

    def _wait(self, reason: str) -> None:
        self._reason = reason

    async def stop(self) -> None:
        """Stop reconciling and release leadership."""
        self._started = False
        await self._purger.stop()
        await self.loop.stop()
        await self._store.stop()
        await self._routing.stop()
