"""The reconcile loop: observe, decide, execute; again until nothing is left to do, then wait for a
change.

There is one loop for all resources: deciding costs microseconds each, and all records of an
iteration for Kafka or the store leave in one write.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError
from headrace.domain.event_schemas import SchemaCompiler
from headrace.domain.ports import Clock, Instances, RoutingReader, RoutingWriter
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change
from headrace.runtime.tasks import end_task
from headrace_controller.event_schema_reader import (
    EventSchemaReader,
    Fetch,
    checker,
    refuse_to_fetch,
)
from headrace_controller.observer import Observer, ObserverPorts
from headrace_controller.plan_executor import PlanExecutor, RecordEvent
from headrace_controller.reconcile.backend import Backend
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.observed_state import Installation, ObservedState
from headrace_controller.reconcile.plan import Plan
from headrace_controller.reconcile.reconciler import reconcile_in_slices
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.subscriber_lists import Admit, admit_unchanged
from headrace_controller.write_bursts import WriteBursts

logger = structlog.get_logger(__name__)

_RESYNC_SECONDS = 30.0
_WAIT_BACKOFF: Final = Backoff((0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0))
"""After iterations in a row that still wait for something."""
_ERROR_BACKOFF: Final = Backoff((0.5, 1.0, 2.0, 5.0))
_PROCESSES_SECONDS = 1.0
_ITERATIONS_MAX = 200
"""Iterations in a row that all execute steps. A state that never converges is an internal error: it
must be reported, and must not use a CPU core.
"""


class ReconcileLoop:
    """Keeps the backend, the routing table and the statuses in line with the resources, while this
    process is the leader.
    """

    def __init__(
        self,
        *,
        installation: Installation,
        store: ResourceStore,
        backend: Backend,
        routing: RoutingReader,
        routes: RoutingWriter,
        instances: Instances,
        clock: Clock,
        reconcilers: Reconcilers = RECONCILERS,
        record_event: RecordEvent = lambda *_: None,
        admit: Admit = admit_unchanged,
        fetch_schema: Fetch = refuse_to_fetch,
    ) -> None:
        """`fetch_schema` reads the schemas of EventTypes that are behind a URL."""
        self._store = store
        self._routing = routing
        self._clock = clock
        self._backend = backend
        self.reconcilers = reconcilers
        self.executor = PlanExecutor(
            store=store,
            backend=backend,
            routes=routes,
            clock=clock,
            record_event=record_event,
            admit=admit,
        )
        ports = ObserverPorts(
            store=store, backend=backend, routing=routing, instances=instances, clock=clock
        )
        self._schemas = EventSchemaReader(fetch_schema, checker(load_schema_compiler), clock)
        self.observer = Observer(installation, reconcilers, ports, self.executor, self._schemas)
        self._changed = asyncio.Event()
        self._bursts = WriteBursts(reconcilers.kinds)
        self._task: asyncio.Task[None] | None = None
        self.turns = 0
        """Iterations that succeeded."""
        self.failed_turns = 0
        self.errors = 0
        """Failed iterations, and resources that could not be decided."""
        self.resource_errors: Counter[str] = Counter()
        """Resources that could not be decided, by kind; each time counts."""
        self.observe_turn: Callable[[float], None] = lambda _: None
        """Called with the seconds that each iteration took, failed ones too."""
        self.steps = 0
        """Of the newest plan, until they are executed."""
        self.waiting_for: tuple[str, ...] = ()
        """What the newest plan waits for."""
        self.converged = False
        """Whether the newest plan was empty."""

    async def start(self) -> None:
        """Start the loop."""
        self._store.watch(self._on_resources)
        self._routing.watch(self._on_change)
        self._task = asyncio.create_task(self._run(), name="reconcile")

    async def stop(self) -> None:
        """Stop the loop; a step in progress may be completed or cancelled, both are safe."""
        task, self._task = self._task, None
        await end_task(task)
        await self._schemas.stop()

    def _on_resources(self, changes: Sequence[Change]) -> None:
        self._bursts.on_changes(changes)
        self._changed.set()

    def _on_change(self, _changes: Collection[object]) -> None:
        self._changed.set()

    async def _run(self) -> None:
        idle, failures, busy = 0, 0, 0
        while True:
            self._changed.clear()
            self._bursts.begin_iteration()
            pause: float = _RESYNC_SECONDS
            try:
                if self._store.epoch is not None:
                    started = self._clock.monotonic()
                    plan = await self._run_timed()
                    seconds = self._clock.monotonic() - started
                    await self._bursts.end_iteration(seconds, is_last=not plan.steps)
                    failures = 0
                    busy = busy + 1 if plan.steps else 0
                    if plan.steps and busy < _ITERATIONS_MAX:
                        idle = 0
                        continue
                    if busy >= _ITERATIONS_MAX:
                        _log_no_convergence(plan, busy)
                    idle += 1
                    pause = self._pause(plan, idle)
            except HeadraceError as error:
                self.errors += 1
                failures += 1
                pause = _ERROR_BACKOFF.seconds(failures)
                logger.warning("reconcile_failed", error=str(error), retry_seconds=pause)
            except Exception:
                # One bad object must not stop the control plane silently; the next change or resync
                # tries again.
                self.errors += 1
                pause = _ERROR_BACKOFF.longest
                logger.exception(
                    "reconcile_internal_error",
                    retry_seconds=pause,
                    next_step="please report this with the traceback",
                )
            if await self._wait_for_change(pause):
                idle = 0

    async def _wait_for_change(self, seconds: float) -> bool:
        """Wait until something has changed (True) or the time is over: a resource, a route, the
        live processes or what they report.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, _PROCESSES_SECONDS)):
                    await self._changed.wait()
                    return True
            except TimeoutError:
                if self._store.epoch is not None and self.observer.has_process_changes():
                    return True
        return False

    def _pause(self, plan: Plan, idle: int) -> float:
        pause = _WAIT_BACKOFF.seconds(idle) if plan.waiting_for else _RESYNC_SECONDS
        now = self._clock.now()
        due = [failure.retry_at for failure in self.executor.failed_steps.values()]
        if plan.requeue_at is not None:
            due.append(plan.requeue_at)
        return max(0.01, min([pause, *(at - now for at in due if at > now)]))

    async def _run_timed(self) -> Plan:
        started = self._clock.monotonic()
        try:
            plan = await self.run_once()
        except Exception:
            self.failed_turns += 1
            raise
        finally:
            self.observe_turn(self._clock.monotonic() - started)
        self.turns += 1
        return plan

    async def run_once(self) -> Plan:
        """Observe, decide and execute once; the plan that was executed."""
        observed = await self.observer.look()
        plan = await self._decide(observed)
        plan = replace(plan, steps=tuple(self.executor.executable(plan.steps)))
        self._log_errors(plan)
        self.waiting_for = tuple(plan.waiting_for)
        self.converged = not plan.steps and not plan.waiting_for
        self.steps = len(plan.steps)
        await self.executor.execute(plan.steps)
        self.steps = 0
        return plan

    async def _decide(self, observed: ObservedState) -> Plan:
        """Decide, and let other tasks run in between; the observed state does not change
        meanwhile.
        """
        for plan in reconcile_in_slices(observed, self.reconcilers, self._backend.decisions):
            if plan is not None:
                return plan
            await asyncio.sleep(0)
        raise AssertionError("the last slice is a plan")

    def _log_errors(self, plan: Plan) -> None:
        """Report what could not be decided: one bad object must neither hold up the others nor be
        ignored silently.
        """
        for resource, error in plan.internal_errors:
            self.errors += 1
            self.resource_errors[resource.kind.kind] += 1
            logger.error(
                "resource_internal_error",
                kind=resource.kind.kind,
                namespace=resource.namespace,
                name=resource.name,
                error=repr(error),
                exc_info=error,
                next_step="please report this with the traceback and the resource",
            )


def load_schema_compiler() -> SchemaCompiler:
    """Import the validator of schemas: 15 MiB of code, which only an installation with schemas
    needs.
    """
    from headrace.adapters.json_schema.compiler import compile_schema

    return compile_schema


def _log_no_convergence(plan: Plan, iterations: int) -> None:
    logger.error(
        "reconcile_not_converging",
        iterations=iterations,
        steps=sorted({type(step).__name__ for step in plan.steps}),
        next_step="please report this with the controller's log",
    )
