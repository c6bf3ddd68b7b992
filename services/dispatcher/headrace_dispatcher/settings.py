"""The settings of the dispatcher: `HEADRACE_DISPATCHER_*`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, ClassVar

from headrace.domain.egress import (
    ALLOW_SETTING,
    DENY_SETTING,
    EgressPolicy,
    ProtectedPort,
    parse_networks,
)
from headrace.runtime.settings import WATCHDOG_SECONDS, Ge, Gt, Le, Pattern, Settings
from headrace_dispatcher.limits import SubscriptionLimits

_LIMITS = SubscriptionLimits()


@dataclass(frozen=True, kw_only=True)
class DispatcherSettings(Settings):
    """What an operator may set for one dispatcher process."""

    env_prefix: ClassVar[str] = "HEADRACE_DISPATCHER_"

    instance: Annotated[str | None, Pattern(r"^[A-Za-z0-9._-]{1,100}$")] = None
    """Stable name of this process (for example the pod name in a StatefulSet); enables Kafka static
    membership, so a restarted process gets its partitions back without a rebalance.
    """
    concurrency_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.concurrency_max
    """Concurrent requests to one subscriber."""
    retry_concurrency_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.retry_concurrency_max
    """Concurrent retries to one subscriber, in addition."""
    records_max: Annotated[int, Ge(16), Le(100_000)] = _LIMITS.unordered_records_max
    """Records held for one subscription, unordered."""
    ordered_records_max: Annotated[int, Ge(16), Le(100_000)] = _LIMITS.ordered_records_max
    """Records held for one subscription, ordered."""
    subscription_bytes_max: Annotated[int, Ge(2 * 1024 * 1024)] = _LIMITS.bytes_max
    """Bytes held for one subscription."""
    bytes_max: Annotated[int, Ge(8 * 1024 * 1024)] = 8 * 1024 * 1024
    """Bytes held and prefetched, for all subscriptions."""
    hops_max: Annotated[int, Ge(1), Le(10_000)] = _LIMITS.hops_max
    """Replies to replies before the chain is considered a loop and ended."""
    loop_replies_per_second: Annotated[float, Ge(0.1), Le(100_000)] = (
        _LIMITS.loop_replies_per_second
    )
    """Replies in a loop, of one subscription, once a chain has more than 8; the others are
    delayed.
    """
    reply_bytes_max: Annotated[int, Ge(1024), Le(64 * 1024 * 1024)] = _LIMITS.reply_bytes_max
    """Bytes of a reply event; the limit of the Broker applies where that is less."""
    drain_seconds: Annotated[float, Gt(0), Le(60)] = 5.0
    """Time to finish requests in flight when partitions are revoked."""
    shared_readers: bool = True
    """Read each channel topic once for all its subscriptions."""
    egress_deny: str = ""
    """Networks (CIDR, separated by commas) that nothing is posted to, beside those denied by
    default; the most specific network decides.
    """
    egress_allow: str = ""
    """Networks that events may be posted to though a wider one, or the default, denies them;
    127.0.0.0/8,::1/128 for this machine.
    """
    append_bytes_max: Annotated[int, Ge(2 * 1024 * 1024)] = 16 * 1024 * 1024
    """Bytes being appended to one topic."""
    state_directory: Path | None = None
    """Directory for notes on records that stall the event loop; must outlive the process; default:
    below the temporary files.
    """
    watchdog_seconds: Annotated[float, Ge(0), Le(3600)] = WATCHDOG_SECONDS
    """How long the event loop may stall before the process is ended (exit code 27); 0: no limit."""

    def __post_init__(self) -> None:
        self.egress()

    def egress(
        self,
        *,
        loopback: bool = False,
        protected_ports: Sequence[ProtectedPort] = (),
        is_local: Callable[[IPv4Address | IPv6Address], bool] = lambda address: address.is_loopback,
    ) -> EgressPolicy:
        """Which addresses events may be posted to; see `EgressPolicy`. Raises ValueError for
        networks that cannot be.
        """
        return EgressPolicy(
            deny=parse_networks(self.egress_deny, DENY_SETTING),
            allow=parse_networks(self.egress_allow, ALLOW_SETTING),
            loopback=loopback,
            protected_ports=protected_ports,
            is_local=is_local,
        )

    def limits(self) -> SubscriptionLimits:
        """As the subscriptions take them."""
        return SubscriptionLimits(
            concurrency_max=self.concurrency_max,
            retry_concurrency_max=self.retry_concurrency_max,
            unordered_records_max=self.records_max,
            ordered_records_max=self.ordered_records_max,
            bytes_max=self.subscription_bytes_max,
            reply_bytes_max=self.reply_bytes_max,
            hops_max=self.hops_max,
            loop_replies_per_second=self.loop_replies_per_second,
        )
