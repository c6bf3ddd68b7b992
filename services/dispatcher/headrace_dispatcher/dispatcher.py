"""The dispatcher: follows the routing table and keeps one `SubscriptionWork` for each subscription
in it.

No process restarts and no consumer leaves its group because a filter, a URL or a policy changed:
changes are applied to the work in place.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial

import structlog

from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Clock, Feeds, Instances, Log, RoutingReader, Sender
from headrace.domain.reply_loops import member
from headrace.domain.routing import (
    DELAYS_KEY,
    EVENT_BYTES_MAX,
    Delays,
    Reply,
    Subscription,
    subscription_key,
)
from headrace.runtime.heartbeat import Heartbeat
from headrace.runtime.metrics import Metrics
from headrace.runtime.retry import retry_until_success
from headrace_dispatcher.appends import Appends
from headrace_dispatcher.counts import DispatcherMetrics
from headrace_dispatcher.delays import DelayReader
from headrace_dispatcher.environment import Environment
from headrace_dispatcher.limits import Limits
from headrace_dispatcher.repairs import Repairs
from headrace_dispatcher.rules import ReplyLimit
from headrace_dispatcher.subscription import SubscriptionWork
from headrace_dispatcher.suspects import Suspects
from headrace_dispatcher.watch import Watch

log = structlog.get_logger(__name__)

FIRST_TRY_SECONDS = 10.0
BACKLOG_SECONDS = 10.0


class Dispatcher:
    """A part of a service: delivers every subscription of the routing table."""

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
        limits: Limits,
        metrics: Metrics,
        suspects: Suspects | None = None,
    ) -> None:
        self._routes = routes
        self._feeds = feeds
        self._appends = Appends(log)
        self._families = families = DispatcherMetrics(metrics)
        self._environment = Environment(
            appends=self._appends,
            feeds=feeds,
            sender=sender,
            clock=clock,
            jitter=jitter,
            delays=self._delays,
            limits=limits,
            metrics=families,
            name_of=self._name_of,
            reply_limit=self._reply_limit,
            suspects=suspects or Suspects(),
        )
        self.works: dict[str, SubscriptionWork] = {}
        """By key of the routing record."""
        self._delay_reader = DelayReader(
            appends=self._appends,
            feeds=feeds,
            clock=clock,
            delays=self._delays,
            subscription=self._subscription,
            moved=self._moved,
        )
        self._watch = Watch(families, self.works, self._delay_reader)
        metrics.before_scrape(self._watch.update)
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairs = Repairs(
            begin=self._bring,
            take_down=self._take_down,
            spawn=self._spawn,
            count=self._count_failure,
        )
        self._added = asyncio.Event()
        self._stopping = False
        self._reason: str | None = "still starting"
        self._heartbeat = Heartbeat(
            "dispatcher",
            instance_id=instance_id,
            instances=instances,
            routes=routes,
            clock=clock,
            groups=self._states,
            types=self._environment.seen.next_batch,
        )

    def _delays(self) -> Delays | None:
        return self._routes.table.delays()

    def _subscription(self, uid: str) -> Subscription | None:
        route = self._routes.table.get(subscription_key(uid))
        return route if isinstance(route, Subscription) else None

    def _reply_limit(self, reply: Reply) -> ReplyLimit:
        """What the ingress takes at the same address; asked for large replies only."""
        most = self._environment.limits.reply_bytes_max
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

    def _moved(self, uid: str) -> None:
        if work := self.works.get(subscription_key(uid)):
            work.parked()

    def not_ready(self) -> str | None:
        """Why events are not delivered, None when they are; a check for
        `headrace.runtime.health`.
        """
        stuck = [
            f"{work.subscription.namespace}/{work.subscription.name}"
            for work in self.works.values()
            if work.stuck
        ]
        unparked = (
            f"records of {', '.join(stuck[:5])} cannot be parked; see the log" if stuck else None
        )
        return self._reason or self._repairs.reason or unparked

    def unacknowledged_since(self) -> str | None:
        """Since when Kafka stores nothing, None while it does; a check for
        `headrace.runtime.health`.
        """
        return self._heartbeat.unacknowledged_since()

    async def start(self) -> None:
        """Deliver what the routing table names, if Kafka answers within 10 s; else go on trying."""
        self._environment.turns.watch(self._doubt)
        preparing = self._spawn(self._prepare())
        await asyncio.wait({preparing}, timeout=FIRST_TRY_SECONDS)

    def _doubt(self) -> None:
        for work in self.works.values():
            work.doubt()

    async def _prepare(self) -> None:
        """Read the routing table to its end, then begin."""
        for attempt in (self._routes.start, self._feeds.prepare):
            await retry_until_success(attempt, waiting=self._wait, retry_on=Exception)
        self._reason = None
        self._routes.watch(self._on_change)
        self._on_change([subscription_key(each.uid) for each in self._routes.table.subscriptions()])
        await self._heartbeat.start()
        self._spawn(self._look_for_backlog_forever())

    def _wait(self, reason: str) -> None:
        self._reason = reason

    def _on_change(self, keys: Collection[str]) -> None:
        for key in {*keys, DELAYS_KEY}:
            if not self._stopping and not (key in keys and self._repairs.changed(key)):
                try:
                    self._bring(key)
                except Exception as error:  # The other subscriptions must be served all the same.
                    self._repairs.failed(key, error)
        self._environment.seen.keep(
            {each.uid for each in self._routes.table.subscriptions() if each.event_types}
        )

    def _bring(self, key: str) -> None:
        """Do what the routing table says of this key now."""
        if self._stopping:
            return
        if key == DELAYS_KEY:
            self._delay_reader.start()
            return
        route, work = self._routes.table.get(key), self.works.get(key)
        if isinstance(route, Subscription):
            self._put(key, route, work)
        elif work is not None:
            del self.works[key]
            work.halt()
            self._spawn(self._retire(work))

    def _put(self, key: str, route: Subscription, work: SubscriptionWork | None) -> None:
        try:
            if work is None:
                work = SubscriptionWork(
                    route, self._environment, failed=partial(self._repairs.failed, key)
                )
            elif work.subscription != route:
                work.apply(route)
                log.info(
                    "subscription_changed",
                    namespace=route.namespace,
                    name=route.name,
                    generation=route.generation,
                )
        # What this version cannot serve leaves the old rules, and the generation is not reported.
        except ValueError as error:
            log.error(
                "subscription_not_served",
                namespace=route.namespace,
                name=route.name,
                reason=str(error),
            )
            return
        if key not in self.works:
            self.works[key] = work
            work.start()
            self._added.set()
            log.info(
                "subscription_started",
                namespace=route.namespace,
                name=route.name,
                group=route.group,
            )

    async def _take_down(self, key: str) -> None:
        """End work that nobody knows the state of; it keeps its place in its groups for what is
        begun in its stead.
        """
        if (work := self.works.pop(key, None)) is not None:
            work.halt()
            await work.stop()

    def _count_failure(self, key: str) -> None:
        route = self._routes.table.get(key)
        labels = (route.namespace, route.name) if isinstance(route, Subscription) else ("", key)
        self._families.failures.labels(*labels).value += 1

    async def _retire(self, work: SubscriptionWork) -> None:
        await work.stop(leave=True)
        if all(each.subscription.name != work.subscription.name for each in self.works.values()):
            work.counts.remove()
        log.info(
            "subscription_stopped",
            namespace=work.subscription.namespace,
            name=work.subscription.name,
        )

    def _states(self) -> Mapping[str, str]:
        return {
            work.subscription.uid: state
            for work in self.works.values()
            if (state := work.state().write())
        }

    async def _look_for_backlog_forever(self) -> None:
        """Open the retry feed of every subscription with retries that wait: of an earlier life, or
        of a process that is gone.
        """
        while True:
            self._added.clear()
            idle = {
                work.subscription.retry_topic: work
                for work in self.works.values()
                if not work.reads_parked
            }
            if idle:
                await self._look_for_backlog(idle)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._added.wait(), BACKLOG_SECONDS)

    async def _look_for_backlog(self, idle: Mapping[str, SubscriptionWork]) -> None:
        try:
            backlog = await self._feeds.backlog({topic: [topic] for topic in idle})
        except HeadraceError as error:
            log.warning("backlog_unknown", reason=str(error))
            return
        except (
            Exception
        ):  # Nothing may end these looks: what an earlier life left would wait for ever.
            log.exception("backlog_unknown")
            return
        if unknown := sum(backlog.unknown.values()):
            self._families.backlog_unknown.value += unknown
            log.warning(
                "backlog_unknown",
                reason="some partitions do not answer",
                partitions=unknown,
                topics=sorted(backlog.unknown)[:5],
            )
        for topic, work in idle.items():
            if backlog.at_least(topic):
                work.parked()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("task_failed", reason=str(error), exc_info=error)

    async def drain(self) -> None:
        """Start nothing more, finish what is on its way, commit, leave the groups."""
        self._stopping = True
        await asyncio.gather(
            self._delay_reader.stop(), *(work.stop() for work in self.works.values())
        )

    async def stop(self) -> None:
        """Let go of everything."""
        await self.drain()
        self._environment.turns.close()
        self._appends.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._heartbeat.stop()
        await self._routes.stop()
