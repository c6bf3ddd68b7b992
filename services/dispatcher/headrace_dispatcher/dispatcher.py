"""The dispatcher: follows the routing table and keeps one `SubscriptionWorker` for each
subscription in it.

No process restarts and no consumer leaves its group because a filter, a URL or a policy changed:
changes are applied to the worker in place.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial

import structlog

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Clock, Feeds, Instances, Log, RoutingReader, Sender
from headrace.domain.reply_loops import member
from headrace.domain.routing import (
    DELAYS_KEY,
    EVENT_BYTES_MAX,
    Addressable,
    Delays,
    DelayTier,
    Reply,
    Subscription,
    subscription_key,
)
from headrace.domain.subscription_state import SubscriptionState
from headrace.runtime.heartbeat import Heartbeat
from headrace.runtime.metrics import Metrics
from headrace.runtime.retry import retry_until_success
from headrace.runtime.tracing import Tracing
from headrace_dispatcher.attempts_by_status import AttemptsByStatus
from headrace_dispatcher.compiled_subscription import ReplyLimit
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.dead_letter_count import DeadLetterCount
from headrace_dispatcher.delays import DelayReader
from headrace_dispatcher.limits import SubscriptionLimits
from headrace_dispatcher.log_limit import LogLimit
from headrace_dispatcher.metrics import DispatcherMetrics
from headrace_dispatcher.periodic_queries import query_periodically
from headrace_dispatcher.poison_tracker import PoisonTracker
from headrace_dispatcher.retrying_log import RetryingLog
from headrace_dispatcher.subscription_health import log_fields
from headrace_dispatcher.subscription_worker import SubscriptionWorker
from headrace_dispatcher.supervisor import SubscriptionSupervisor

logger = structlog.get_logger(__name__)

FIRST_TRY_SECONDS = 10.0
BACKLOG_SECONDS = 2.0
"""How long the first retry of a subscription may wait that another process has stored."""
BACKLOG_LOG_SECONDS = 30.0
"""At most one line `backlog_unknown` of each level in this time."""


class Dispatcher:
    """A component of a service: delivers every subscription of the routing table."""

    def __init__(
        self,
        *,
        instance_id: str,
        log: Log,
        feeds: Feeds,
        sender: Sender,
        routes: RoutingReader,
        instances: Instances,
        clock: Clock,
        jitter: Callable[[], float],
        limits: SubscriptionLimits,
        metrics: Metrics,
        poison_tracker: PoisonTracker | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._routes = routes
        self._feeds = feeds
        self._log = RetryingLog(log)
        self._families = families = (
            AttemptsByStatus(metrics, self._addressable_of)
            if metrics.knative_names
            else DispatcherMetrics(metrics)
        )
        self._context = DispatcherContext(
            retrying_log=self._log,
            feeds=feeds,
            sender=sender,
            clock=clock,
            jitter=jitter,
            delays=self._delays,
            limits=limits,
            metrics=families,
            name_of=self._name_of,
            reply_limit=self._reply_limit,
            poison_tracker=poison_tracker or PoisonTracker(),
            tracing=tracing,
        )
        self.workers: dict[str, SubscriptionWorker] = {}
        """By key of the routing record."""
        self._draining: set[SubscriptionWorker] = set()
        """Of subscriptions that are not in the routing table any longer."""
        self._delay_reader = DelayReader(
            retrying_log=self._log,
            feeds=feeds,
            clock=clock,
            delays=self._delays,
            all_delays=self._all_delays,
            subscription=self._subscription,
            on_moved=self._on_moved,
        )
        metrics.before_scrape(self._update_gauges)
        self._dead_letter_count = DeadLetterCount(feeds, lambda: tuple(self.workers.values()))
        self._tasks: set[asyncio.Task[None]] = set()
        self._supervisor = SubscriptionSupervisor(
            names=self._names,
            start=self._apply_route,
            stop_worker=self._stop_worker,
            spawn=self._spawn,
            count_failure=self._count_failure,
        )
        self._added = asyncio.Event()
        self._log_limit = LogLimit(clock, BACKLOG_LOG_SECONDS)
        self._stopping = False
        self._reason: str | None = "still starting"
        self._heartbeat = Heartbeat(
            "dispatcher",
            instance_id=instance_id,
            instances=instances,
            routes=routes,
            clock=clock,
            groups=self._states,
            types=self._context.observed_types.next_batch,
        )

    def _delays(self, backend: str) -> Delays | None:
        return self._routes.table.delays(backend)

    def _all_delays(self) -> Iterable[Delays]:
        return self._routes.table.all_delays()

    def _subscription(self, uid: str) -> Subscription | None:
        route = self._routes.table.get(subscription_key(uid))
        return route if isinstance(route, Subscription) else None

    def _addressable_of(self, topic: str) -> Addressable | None:
        found = (each for each in self._routes.table.addressables() if each.topic == topic)
        return next(found, None)

    def _reply_limit(self, reply: Reply) -> ReplyLimit:
        """What the ingress accepts at the same address; read for large replies only."""
        most = self._context.limits.reply_bytes_max
        if reply.topic is not None:
            taken = (
                each.event_bytes_max
                for each in self._routes.table.addressables()
                if each.topic == reply.topic
            )
            most = min(most, max(taken, default=EVENT_BYTES_MAX))
        return ReplyLimit(most)

    def _name_of(self, of: str) -> str:
        found = next(
            (each for each in self._routes.table.subscriptions() if member(each.uid) == of), None
        )
        return f"{found.namespace}/{found.name}" if found else of

    def _on_moved(self, uid: str, tier: DelayTier | None) -> None:
        if worker := self.workers.get(subscription_key(uid)):
            worker.metrics.retry_scheduled(tier)
            worker.on_retry_stored()

    def not_ready(self) -> str | None:
        """Why events are not delivered, None when they are; a check for
        `headrace.runtime.health`.
        """
        stuck = [
            f"{worker.subscription.namespace}/{worker.subscription.name}"
            for worker in self.workers.values()
            if worker.health.stuck
        ]
        stuck_reason = (
            f"retry records or dead letters of {', '.join(stuck[:5])} cannot be stored; see the log"
            if stuck
            else None
        )
        return self._reason or self._supervisor.reason or stuck_reason

    def unacknowledged_since(self) -> str | None:
        """Since when Kafka has acknowledged nothing, None while it does; a check for
        `headrace.runtime.health`.
        """
        return self._heartbeat.unacknowledged_since()

    async def start(self) -> None:
        """Deliver what is in the routing table. Returns after 10 s at most, and keeps trying until
        Kafka answers.
        """
        self._context.scheduler.watch_for_stalls(self._verify_memberships)
        preparing = self._spawn(self._prepare())
        await asyncio.wait({preparing}, timeout=FIRST_TRY_SECONDS)

    def _verify_memberships(self) -> None:
        for worker in self.workers.values():
            worker.lanes.verify_membership()

    async def _prepare(self) -> None:
        """Read the routing table to its end, then start the workers."""
        for attempt in (self._routes.start, self._feeds.prepare):
            await retry_until_success(attempt, waiting=self._set_not_ready, retry_on=Exception)
        self._reason = None
        self._routes.watch(self._on_change)
        self._on_change([subscription_key(each.uid) for each in self._routes.table.subscriptions()])
        await self._heartbeat.start()
        self._spawn(self._poll_backlogs())
        self._spawn(self._dead_letter_count.run())

    def _set_not_ready(self, reason: str) -> None:
        self._reason = reason

    def _on_change(self, keys: Collection[str]) -> None:
        for key in {*keys, DELAYS_KEY}:
            if not self._stopping and not (key in keys and self._supervisor.on_route_changed(key)):
                try:
                    self._apply_route(key)
                except Exception as error:  # The other subscriptions must still be served.
                    self._supervisor.on_failure(key, error)
        self._context.observed_types.keep(
            {each.uid for each in self._routes.table.subscriptions() if each.event_types}
        )

    def _apply_route(self, key: str) -> None:
        """Apply the current routing record of this key."""
        if self._stopping:
            return
        if key == DELAYS_KEY:
            self._delay_reader.start()
            return
        route, worker = self._routes.table.get(key), self.workers.get(key)
        if isinstance(route, Subscription):
            self._apply_subscription(key, route, worker)
        elif worker is not None:
            del self.workers[key]
            self._draining.add(worker)
            worker.halt()
            self._spawn(self._remove_worker(worker))

    def _apply_subscription(
        self, key: str, route: Subscription, worker: SubscriptionWorker | None
    ) -> None:
        try:
            if worker is None:
                worker = SubscriptionWorker(
                    route, self._context, failed=partial(self._supervisor.on_failure, key)
                )
            elif worker.subscription != route:
                worker.apply(route)
                logger.info(
                    "subscription_changed", **log_fields(route), generation=route.generation
                )
        # What this version cannot serve leaves the old subscription in force, and the generation is
        # not reported.
        except ValueError as error:
            logger.error(
                "subscription_not_served",
                **log_fields(route),
                error=str(error),
                next_step="upgrade the dispatcher, or change the subscription",
            )
            return
        if key not in self.workers:
            self.workers[key] = worker
            worker.start()
            self._added.set()
            self._dead_letter_count.count_soon()
            logger.info("subscription_started", **log_fields(route), group=route.group)

    async def _stop_worker(self, key: str) -> None:
        """Stop a worker whose state is unknown; it stays a member of its groups for the worker that
        replaces it.
        """
        if (worker := self.workers.pop(key, None)) is not None:
            worker.halt()
            await worker.stop()

    def _update_gauges(self) -> None:
        """Called before each scrape."""
        for worker in self.workers.values():
            worker.update_gauges()
        for topic, waiting in self._delay_reader.waiting().items():
            self._families.delayed.labels(topic).set(waiting)

    def _names(self, key: str) -> Mapping[str, str]:
        """The fields by which the log names the subscription with this routing key."""
        route = self._routes.table.get(key)
        return log_fields(route) if isinstance(route, Subscription) else {}

    def _count_failure(self, key: str) -> None:
        labels = self._names(key).values() or ("", "", key)
        self._families.readers.failures.labels(*labels).value += 1

    async def _remove_worker(self, worker: SubscriptionWorker) -> None:
        try:
            await worker.stop(leave=True)
        finally:
            self._draining.discard(worker)
        if all(each.metrics.labels != worker.metrics.labels for each in self.workers.values()):
            worker.metrics.remove()
        uid = worker.subscription.uid
        if all(each.subscription.uid != uid for each in (*self.workers.values(), *self._draining)):
            self._context.poison_tracker.forget(uid)
        logger.info("subscription_stopped", **log_fields(worker.subscription))

    def _states(self) -> Mapping[str, str]:
        states = {
            worker.subscription.uid: state
            for worker in self.workers.values()
            if (state := worker.report().write())
        }
        draining = SubscriptionState(draining=True).write()
        # A Trigger that was created again with its uid, by a restored backup, is served again.
        return {each.subscription.uid: draining for each in self._draining} | states

    async def _poll_backlogs(self) -> None:
        """Open the lanes of retry and dead letter topics that have records: from before a restart,
        or from another process. A subscription that was added is asked about at once.
        """
        asked: set[SubscriptionWorker] = set()

        async def ask(all_workers: bool) -> None:
            if all_workers:
                asked.clear()
            unread = {
                worker: topics
                for worker in self.workers.values()
                if worker not in asked and (topics := worker.lanes.unread)
            }
            asked.update(unread)
            if unread:
                await self._open_backlogs(unread)

        await query_periodically(ask, self._added, every_seconds=BACKLOG_SECONDS)

    async def _open_backlogs(self, unread: Mapping[SubscriptionWorker, Collection[str]]) -> None:
        try:
            # Retries and dead letters have one group.
            backlog = await self._feeds.backlog(
                {worker.subscription.retry_topic: tuple(unread[worker]) for worker in unread}
            )
        except HeadraceError as error:
            self._log_unknown_backlog(error=str(error))
            return
        except Exception:
            # Nothing may end this loop: retries from before a restart would wait without end.
            if self._log_limit.passes("exception"):
                logger.exception(
                    "backlog_unknown",
                    **self._log_limit.suppressed("exception"),
                    next_step="report this as a bug; it is tried again",
                )
            return
        if unknown := sum(backlog.unknown.values()):
            self._families.backlog_unknown.value += unknown
            self._log_unknown_backlog(
                error="some partitions do not answer",
                partitions=unknown,
                topics=sorted(backlog.unknown)[:5],
            )
        for worker in unread:
            waiting = backlog.waiting.get(worker.subscription.retry_topic, {})
            worker.lanes.open_for({each.topic for each, records in waiting.items() if records})

    def _log_unknown_backlog(self, **fields: object) -> None:
        """Log a failure, which repeats every `BACKLOG_SECONDS` while Kafka does not answer."""
        if self._log_limit.passes("backlog_unknown"):
            logger.warning(
                "backlog_unknown",
                **fields,
                **self._log_limit.suppressed("backlog_unknown"),
                next_step="check Kafka; retries that other processes have stored wait until it"
                " answers",
            )

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("task_failed", error=str(error), exc_info=error)

    async def drain(self) -> None:
        """Start nothing more, finish what is in flight, commit, leave the groups."""
        self._stopping = True
        await asyncio.gather(
            self._delay_reader.stop(), *(worker.stop() for worker in self.workers.values())
        )

    async def stop(self) -> None:
        """Release everything."""
        await self.drain()
        self._context.scheduler.close()
        self._log.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._heartbeat.stop()
        await self._routes.stop()
