"""Reply loops of one subscription: counted, slowed down, and reported with their members."""

from collections.abc import Callable

from headrace.codec import delivery_state
from headrace.domain.ports import Clock
from headrace.domain.record import Headers
from headrace.domain.reply_loops import RateLimiter, circle
from headrace_dispatcher.limits import RECENT_SECONDS, SubscriptionLimits
from headrace_dispatcher.metrics import SubscriptionMetrics

SHOWN_MAX = 8


class ReplyLoopGuard:
    """Watches the replies of one subscription."""

    def __init__(
        self,
        uid: str,
        *,
        limits: SubscriptionLimits,
        metrics: SubscriptionMetrics,
        clock: Clock,
    ) -> None:
        """More than `limits.long_hops` replies make a long chain; of those in a loop,
        `limits.loop_replies_per_second` are allowed.
        """
        self._uid = uid
        self._hops_max = limits.hops_max
        self._long_hops = limits.long_hops
        self._rate_limiter = RateLimiter(limits.loop_replies_per_second)
        self._metrics = metrics
        self._clock = clock
        self._members: dict[str, None] = {}
        self._seen_at = float("-inf")

    def wait(self, hops: int, headers: Headers) -> float:
        """The seconds for which a reply must wait that is number `hops` in the chain of the event
        with these headers.
        """
        if hops <= self._long_hops:
            return 0.0
        self._metrics.long_chains.value += 1
        members = circle(delivery_state.read_chain(headers), self._uid)
        if not members:
            return 0.0
        now = self._clock.monotonic()
        self._expire(now)
        self._seen_at = now
        self._members.update(dict.fromkeys(members))
        wait = self._rate_limiter.wait(now)
        if wait > 0.0:
            self._metrics.loop_held.value += 1
        return wait

    def cancel_last(self) -> None:
        """The last reply that was to wait is not sent."""
        self._rate_limiter.cancel_last()

    def describe(self, name: Callable[[str], str]) -> str:
        """The loops seen in the last 10 minutes, empty without one; `name` returns the name of a
        member of a chain.

        No counts: the text is part of a status, and should change rarely.
        """
        if self._members:
            self._expire(self._clock.monotonic())
        if not self._members:
            return ""
        names = sorted(name(each) for each in self._members)
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        through = ", ".join(names[:SHOWN_MAX]) + more
        return (
            f"more than {self._long_hops} replies to replies ({self._hops_max} are allowed), in a"
            f" circle through {through}"
        )

    def _expire(self, now: float) -> None:
        if now - self._seen_at >= RECENT_SECONDS:
            self._members.clear()
