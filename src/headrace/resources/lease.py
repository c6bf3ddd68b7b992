"""Leader election by a lease that is stored as a record next to the data that it protects.

The holder renews it; another controller may take a lease that has not been renewed for a while,
with a higher epoch. The lease decides only *when* to take over. That two controllers can never
write at once is guaranteed by the log (the writer's transactional id fences the older one), so a
wrong clock costs an interruption and never a resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RENEW_SECONDS = 2.0
STALE_SECONDS = 8.0
LONG_AGO_SECONDS = 60.0
"""A lease that was renewed this long ago by the log's clock is stale at first sight; below that,
clocks may differ and its renewal is observed instead.
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease as last written. An empty holder means that it was released."""

    holder: str
    epoch: int

    def to_object(self) -> dict[str, Any]:
        """The object as it is stored."""
        return {"holder": self.holder, "epoch": self.epoch}


def read_lease(document: Mapping[str, Any]) -> Lease:
    """The inverse of `Lease.to_object`. Raises ValueError."""
    holder, epoch = document.get("holder"), document.get("epoch")
    if not isinstance(holder, str) or not isinstance(epoch, int) or epoch < 0:
        raise ValueError("a lease has a holder and an epoch")
    return Lease(holder, epoch)


def may_acquire(
    lease: Lease | None, *, me: str, first: bool, unrenewed_seconds: float, age_seconds: float
) -> bool:
    """Whether `me` may take over.

    `unrenewed_seconds` is how long this process has seen no renewal, `age_seconds` the age by the
    log's clock; `first` is True only for a process that has not written yet: it may take back at
    once what an earlier process of the same name held. A process that was fenced may not, or two
    with one name would fence each other without end.
    """
    if lease is None or not lease.holder:
        return True
    if first and (lease.holder == me or age_seconds > LONG_AGO_SECONDS):
        return True
    return unrenewed_seconds > STALE_SECONDS
