"""Leader election of the Kafka mode: one controller, the leader, writes the resources; the others
are standbys.

The leader holds a lease (`headrace.resources.lease`), a record in the topic of the resources. The
names are those of client-go's `leaderelection`. A `LeaderElector` only decides when this controller
acquires, renews and releases the lease. That two controllers never write at once is guaranteed by
the log: opening it fences the earlier writer.
"""

from collections.abc import Awaitable, Callable

from headrace.codec.objects import read_object, write_object
from headrace.domain.ports import Clock
from headrace.domain.record import StoredRecord
from headrace.resources.lease import RENEW_SECONDS, Lease, may_acquire, read_lease
from headrace.resources.resource import NotLeader

LEASE_KEY = "lease"
"""The key of the lease's record. A resource has a key with slashes."""


class LeaderElector:
    """The leadership of one controller: its lease, and its epoch while it is the leader.

    Call from the event loop. The errors of `store` are raised by `acquire`, `renew` and `release`,
    which change nothing then.
    """

    def __init__(
        self,
        *,
        holder: str,
        clock: Clock,
        store: Callable[[str, bytes], Awaitable[object]],
        may_lead: Callable[[], bool] = lambda: True,
    ) -> None:
        """`store` writes the record of a lease, with this key and value. While `may_lead` returns
        False, this controller does not acquire the lease and must release it.
        """
        self._holder = holder
        self._clock = clock
        self._store = store
        self._may_lead = may_lead
        self._epoch: int | None = None
        self._first = True
        self._lease: Lease | None = None
        self._observed_at = self._renewed_at = clock.monotonic()
        self._lease_ms = 0

    @property
    def epoch(self) -> int | None:
        """The number of this term; None while this controller is a standby."""
        return self._epoch

    @property
    def leader(self) -> str:
        """The holder of the lease as last read; empty if there is none."""
        return self._lease.holder if self._lease else ""

    @property
    def may_acquire(self) -> bool:
        """Whether this controller, a standby, may acquire the lease now."""
        return self._may_lead() and may_acquire(
            self._lease,
            me=self._holder,
            first=self._first,
            unrenewed_seconds=self._clock.monotonic() - self._observed_at,
            age_seconds=self._clock.now() - self._lease_ms / 1000,
        )

    @property
    def must_release(self) -> bool:
        """Whether this controller is the leader and may not lead any longer."""
        return self._epoch is not None and not self._may_lead()

    @property
    def is_taken_over(self) -> bool:
        """Whether the lease as last read is another controller's, or of another term."""
        return self._lease is not None and self._lease != Lease(self._holder, self._epoch or 0)

    @property
    def seconds_to_renewal(self) -> float:
        """In how many seconds the leader should renew its lease; 0 or less: now."""
        return self._renewed_at + RENEW_SECONDS - self._clock.monotonic()

    async def acquire(self) -> int:
        """Become the leader of a new term and return its epoch. The log must have been opened and
        read to its end.
        """
        epoch = (self._lease.epoch if self._lease else 0) + 1
        await self._write(epoch)
        self._first = False
        self._epoch = epoch
        return epoch

    async def renew(self) -> None:
        """Renew the lease of this term."""
        await self._write(self._epoch or 0)

    async def release(self) -> None:
        """Release the lease, so that the next leader does not have to wait until it expires. Call
        `step_down` afterwards.
        """
        if self._epoch is not None:
            await self._store(LEASE_KEY, write_object(Lease("", self._epoch).to_object()))

    def step_down(self) -> None:
        """Be a standby, which waits until the lease has not been renewed for a while."""
        self._epoch = None
        self.defer()

    def defer(self) -> None:
        """Count the time without a renewal from now on: another controller is the leader, or is
        becoming it.
        """
        self._observed_at = self._clock.monotonic()

    def observe(self, record: StoredRecord) -> None:
        """Read a record of the lease. Raises ValueError or InvalidObject."""
        if record.value is not None:
            self._lease = read_lease(read_object(record.value))
            self._observed_at, self._lease_ms = self._clock.monotonic(), record.timestamp_ms

    def not_leader_error(self) -> NotLeader:
        """The answer to a write while this controller is a standby."""
        if not self.leader or (self._first and self.leader == self._holder):
            return NotLeader(
                "no controller is the leader yet, this one is becoming it; send the request again"
                f" in {RENEW_SECONDS:g} s"
            )
        who = (
            "another controller takes over"
            if self.leader == self._holder
            else f"controller {self.leader} is the leader"
        )
        return NotLeader(
            f"this controller is a standby, {who}; send the request there, or again in"
            f" {RENEW_SECONDS:g} s"
        )

    async def _write(self, epoch: int) -> None:
        lease = Lease(self._holder, epoch)
        await self._store(LEASE_KEY, write_object(lease.to_object()))
        self._lease, self._renewed_at = lease, self._clock.monotonic()
