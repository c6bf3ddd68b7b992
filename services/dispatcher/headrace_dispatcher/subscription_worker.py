"""One subscription in this process: started, changed and stopped.

The parts: `lane_set.py` has its lanes and their feeds, `subscriber_handler.py` and
`dead_letter_sink_handler.py` make its requests, `failure_handler.py` applies its delivery policy,
`subscription_health.py` describes its state.
"""

from collections.abc import Callable, Mapping

from headrace.domain.breaker import Breaker
from headrace.domain.observed_event_types import EventTypeObserver
from headrace.domain.ports import Lag
from headrace.domain.record import Partition
from headrace.domain.routing import Subscription
from headrace.domain.subscription_state import SubscriptionState
from headrace_dispatcher.compiled_subscription import CompiledSubscription, compile_subscription
from headrace_dispatcher.context import DispatcherContext
from headrace_dispatcher.dead_letter_sink_handler import DeadLetterSinkHandler
from headrace_dispatcher.delivery import DeliveryHandler
from headrace_dispatcher.failing_attempts import FailingAttempts
from headrace_dispatcher.failing_filter import FailingFilter
from headrace_dispatcher.gate import BreakerGate
from headrace_dispatcher.lane_set import LaneSet
from headrace_dispatcher.reply_loop_guard import ReplyLoopGuard
from headrace_dispatcher.retry_or_dead_letter import RetryOrDeadLetter
from headrace_dispatcher.subscriber_handler import SubscriberHandler
from headrace_dispatcher.subscription_health import SubscriptionHealth, filter_error_handler
from headrace_dispatcher.traced_delivery_handler import TracedDeliveryHandler


class SubscriptionWorker:
    """Starts, changes and stops the delivery of one subscription."""

    def __init__(
        self,
        subscription: Subscription,
        context: DispatcherContext,
        *,
        failed: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """`failed` is called when a feed could not be opened in the background: this worker then
        has to be replaced by a new one. Raises ValueError for a subscription that this version
        cannot serve.
        """
        self.subscription = subscription
        self._context = context
        self.metrics = context.metrics.of(subscription)
        self._gate = BreakerGate(
            breaker=Breaker(context.limits.concurrency_max), clock=context.clock, pump=self._pump
        )
        self._gate.enabled = subscription.breaker
        self._failing_filter = FailingFilter()
        self._compiled = self._compile(subscription)
        self._earlier: list[CompiledSubscription] = []
        """Earlier generations, under which requests are still in flight."""
        failing = FailingAttempts()
        self._failures = RetryOrDeadLetter(
            subscription=subscription,
            metrics=self.metrics,
            context=context,
            failing=failing,
            on_retry_stored=self.on_retry_stored,
            on_dead_letter_stored=self._on_dead_letter_stored,
        )
        loop_guard = ReplyLoopGuard(
            subscription.uid, limits=context.limits, metrics=self.metrics, clock=context.clock
        )
        self._subscriber_handler = SubscriberHandler(
            compiled=self._compiled,
            failures=self._failures,
            metrics=self.metrics,
            context=context,
            loop_guard=loop_guard,
        )
        self._update_type_observer()
        self._sink_handler = DeadLetterSinkHandler(
            compiled=self._compiled,
            failures=self._failures,
            metrics=self.metrics,
            context=context,
        )
        self.health = SubscriptionHealth(
            self._compiled,
            metrics=self.metrics,
            gate=self._gate,
            loop_guard=loop_guard,
            failing=failing,
            failing_filter=self._failing_filter,
            clock=context.clock,
            lag=self.lag,
            shared_alarms=context.shared_alarms,
        )
        self.lanes = LaneSet(
            compiled=self._compiled,
            context=context,
            subscriber_handler=self._traced(self._subscriber_handler, "deliver"),
            sink_handler=self._traced(self._sink_handler, "deliver_dead_letter"),
            failures=self._failures,
            gate=self._gate,
            metrics=self.metrics,
            health=self.health,
            on_failed=failed,
        )

    def __repr__(self) -> str:
        subscription = self.subscription
        return (
            f"<SubscriptionWorker {subscription.namespace}/{subscription.name} "
            f"{self.health.breaker_state} {list(self.lanes)}>"
        )

    def _traced(self, handler: DeliveryHandler, operation: str) -> DeliveryHandler:
        tracing = self._context.tracing
        if tracing is None:
            return handler
        return TracedDeliveryHandler(handler, tracing, lambda: self.subscription, operation)

    def _compile(self, subscription: Subscription) -> CompiledSubscription:
        limits = self._context.limits
        return compile_subscription(
            subscription,
            self._context.sender,
            connections_max=limits.concurrency_max + limits.retry_concurrency_max,
            filter_failed=filter_error_handler(subscription, self.metrics, self._failing_filter),
            reply_limit=self._context.reply_limit,
        )

    def _update_type_observer(self) -> None:
        wanted = self.subscription.event_types
        if wanted != (self._subscriber_handler.types is not None):
            self._subscriber_handler.types = (
                EventTypeObserver(self.subscription.uid, self._context.observed_types)
                if wanted
                else None
            )

    def start(self) -> None:
        """Join the group and begin to deliver; the other lanes follow when there is work."""
        self.lanes.open()

    def apply(self, subscription: Subscription) -> None:
        """Use a changed subscription for every attempt from now on; requests in flight end under
        the old one.

        Raises ValueError for a subscription that this version cannot serve, and changes nothing.
        """
        compiled, old_compiled = self._compile(subscription), self._compiled
        if subscription.filters != self.subscription.filters:
            self._failing_filter.clear()
        self.subscription, self._compiled = subscription, compiled
        self.metrics.relabel(subscription)
        self._failures.subscription = subscription
        self._subscriber_handler.compiled = self._sink_handler.compiled = compiled
        self.health.compiled = compiled
        self._gate.enabled = subscription.breaker
        self._update_type_observer()
        self._earlier.append(old_compiled)
        self._close_unused()
        self.lanes.apply(compiled)

    def _close_unused(self) -> None:
        """Close the earlier generations that no request uses any longer."""
        used = [each for each in self._earlier if any(lane.uses(each) for lane in self.lanes)]
        for each in self._earlier:
            if each not in used:
                each.close()
        self._earlier = used

    def on_retry_stored(self) -> None:
        """A record is in the retry topic, or will be soon."""
        self.lanes.open_retries()

    def _on_dead_letter_stored(self) -> None:
        self.lanes.open_dead_letters()

    def _pump(self) -> None:
        self.lanes.pump()

    def halt(self) -> None:
        """Start nothing more, at once; requests in flight end."""
        self.lanes.halt()

    async def stop(self, *, leave: bool = False) -> None:
        """Halt, drain and commit; `leave` the groups when the subscription is deleted."""
        self.health.deleted = leave
        await self.lanes.close(leave=leave)
        self._gate.close()
        for each in (*self._earlier, self._compiled):
            each.close()

    def lag(self) -> Mapping[Partition, Lag]:
        """As `LaneSet.lag`."""
        return self.lanes.lag()

    def report(self) -> SubscriptionState:
        """As `SubscriptionHealth.report`."""
        if self._earlier:
            self._close_unused()
        return self.health.report(
            self._context.name_of, self._sink_handler.rejected, changing=bool(self._earlier)
        )

    def update_gauges(self) -> None:
        """Set the gauges of this subscription, before a scrape."""
        self.lanes.count_skipped()
        self.health.update_gauges(
            in_flight=self.lanes.in_flight(),
            retries_waiting=self.lanes.retries_waiting(),
            concurrency_limit=self.lanes.concurrency_limit(),
        )
