"""The settings of the dispatcher: `HEADRACE_DISPATCHER_*`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from headrace.runtime.settings import Pattern, Settings
from headrace_dispatcher.limits import Limits

_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class DispatcherSettings(Settings):
    """What an operator may set for one dispatcher process."""

    env_prefix: ClassVar[str] = "HEADRACE_DISPATCHER_"

    instance: Annotated[str | None, Pattern(r"^[A-Za-z0-9._-]{1,100}$")] = None
    """Lasting name of this process (a StatefulSet's pod name, say): it gets its partitions back at once after a crash."""
    concurrency_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.concurrency_max
    """Requests at once to one subscriber."""
    retry_concurrency_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.retry_concurrency_max
    """Of retries, beside them."""
    records_max: Annotated[int, Ge(16), Le(100_000)] = _LIMITS.unordered_records_max
    """Records in hand of one subscription, unordered."""
    ordered_records_max: Annotated[int, Ge(16), Le(100_000)] = _LIMITS.ordered_records_max
    """Records in hand of one subscription, ordered."""
    subscription_bytes_max: Annotated[int, Ge(2 * 1024 * 1024)] = _LIMITS.bytes_max
    """Bytes in hand of one subscription."""
    bytes_max: Annotated[int, Ge(8 * 1024 * 1024)] = 8 * 1024 * 1024
    """Bytes in hand and prefetched, of all subscriptions."""
    hops_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.hops_max
    """Replies to replies before the chain is taken for a loop."""
    reply_bytes_max: Annotated[int, Ge(1024), Le(1_048_576)] = 65_536
    """Bytes of a response that are read."""
    drain_seconds: Annotated[float, Gt(0), Le(60)] = 5.0
    """Time to finish what is in hand when partitions are given back."""
    append_bytes_max: Annotated[int, Ge(2 * 1024 * 1024)] = 16 * 1024 * 1024
    """Bytes on their way to one topic."""

    def limits(self) -> Limits:
        """As the subscriptions take them."""
        return Limits(
            concurrency_max=self.concurrency_max,
            retry_concurrency_max=self.retry_concurrency_max,
            unordered_records_max=self.records_max,
            ordered_records_max=self.ordered_records_max,
            bytes_max=self.subscription_bytes_max,
            hops_max=self.hops_max,
        )
