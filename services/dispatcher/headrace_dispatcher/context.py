"""What all subscriptions of this process share: the ports and the limits."""

from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.domain.observed_event_types import ObservedEventTypes
from headrace.domain.ports import Clock, Feeds, Sender
from headrace.domain.routing import Delays, Reply
from headrace.runtime.tracing import Tracing
from headrace_dispatcher.compiled_subscription import ReplyLimit
from headrace_dispatcher.fair_scheduler import FairScheduler
from headrace_dispatcher.limits import SubscriptionLimits
from headrace_dispatcher.metrics import DispatcherMetrics
from headrace_dispatcher.poison_tracker import PoisonTracker
from headrace_dispatcher.retrying_log import RetryingLog
from headrace_dispatcher.shared_alarms import SharedAlarms


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherContext:
    """Created once, by `Dispatcher`."""

    retrying_log: RetryingLog
    feeds: Feeds
    sender: Sender
    clock: Clock
    jitter: Callable[[], float]
    """A new number in [-1, 1] at each call."""
    delays: Callable[[str], Delays | None]
    """The delay topics of a backend, as in the routing table now."""
    limits: SubscriptionLimits
    metrics: DispatcherMetrics
    name_of: Callable[[str], str] = lambda member: member
    """The name (`namespace/name`) of the subscription that a chain of replies calls this; see
    `headrace.domain.reply_loops`.
    """
    reply_limit: Callable[[Reply], ReplyLimit] = lambda reply: ReplyLimit(
        SubscriptionLimits().reply_bytes_max
    )
    """How large a reply may be that goes there."""
    scheduler: FairScheduler = field(default_factory=FairScheduler)
    observed_types: ObservedEventTypes = field(default_factory=ObservedEventTypes)
    """Types of replies, of subscriptions whose routing record asks for them."""
    poison_tracker: PoisonTracker = field(default_factory=PoisonTracker)
    shared_alarms: SharedAlarms = field(default_factory=SharedAlarms)
    tracing: Tracing | None = None
    """None when no traces are recorded."""
    misplaced: set[str] = field(default_factory=set)
    """Topics for which `content_type_misplaced` has been logged."""
