"""Bounds of the work on one subscription."""

from dataclasses import dataclass

RECENT_SECONDS = 600.0
"""How long a dead letter, a rejection or a reply loop is reported after it was last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionLimits:
    """Bounds of one subscription in one process."""

    concurrency_floor: int = 16
    """Concurrent requests that every subscriber may get, however slowly it answers."""
    concurrency_max: int = 128
    """Concurrent requests to the subscriber; as many connections."""
    retry_concurrency_max: int = 32
    unordered_records_max: int = 256
    """Records handed out and not done, live; the same for the retry lane."""
    ordered_records_max: int = 1024
    lane_records_max: int = 128
    """Records waiting behind one key before its partition is paused."""
    retry_records_max: int = 1024
    bytes_max: int = 8 * 1024 * 1024
    reply_bytes_max: int = 16 * 1024 * 1024
    """Of a reply event; the limit of its topic applies where that is less."""
    hops_max: int = 64
    """Replies to replies before the chain is considered a loop and ended."""
    long_hops: int = 8
    """Replies to replies from which on a chain that comes back to a subscription is slowed down and
    reported.
    """
    loop_replies_per_second: float = 10.0
    """Of such replies, for each subscription in each process."""
