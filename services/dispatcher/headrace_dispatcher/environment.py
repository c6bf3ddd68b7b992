"""What every subscription of this process shares: the outside world behind ports, and the
limits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.domain.observed_event_types import ObservedEventTypes
from headrace.domain.ports import Clock, Feeds, Sender
from headrace.domain.routing import Delays, Reply
from headrace_dispatcher.appends import Appends
from headrace_dispatcher.counts import DispatcherMetrics
from headrace_dispatcher.limits import Limits
from headrace_dispatcher.rules import ReplyLimit
from headrace_dispatcher.suspects import Suspects
from headrace_dispatcher.turns import Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Made once by the composition root."""

    appends: Appends
    feeds: Feeds
    sender: Sender
    clock: Clock
    jitter: Callable[[], float]
    """A new number in [-1, 1] at each call."""
    delays: Callable[[], Delays | None]
    limits: Limits
    metrics: DispatcherMetrics
    name_of: Callable[[str], str] = lambda member: member
    """The name (`namespace/name`) of the subscription that a chain of replies calls this; see
    `headrace.domain.reply_loops`.
    """
    reply_limit: Callable[[Reply], ReplyLimit] = lambda reply: ReplyLimit(Limits().reply_bytes_max)
    """How large a reply may be that goes there."""
    turns: Turns = field(default_factory=Turns)
    seen: ObservedEventTypes = field(default_factory=ObservedEventTypes)
    """Types of replies, of subscriptions whose routing record asks for them."""
    suspects: Suspects = field(default_factory=Suspects)
    misplaced: set[str] = field(default_factory=set)
    """Topics of which the log has said that they have records with a header
    `ce_datacontenttype`.
    """
