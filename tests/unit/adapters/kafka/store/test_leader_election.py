"""Leader election: what a controller does with the lease."""

from dataclasses import dataclass, field

import pytest

from headrace.adapters.kafka.store.leader_election import LEASE_KEY, LeaderElector
from headrace.codec.objects import read_object, write_object
from headrace.domain.control_topics import RESOURCES_TOPIC
from headrace.domain.errors import Fenced
from headrace.domain.record import StoredRecord
from headrace.resources.lease import RENEW_SECONDS, STALE_SECONDS, Lease, read_lease

ME, OTHER = "controller-0", "controller-1"


@dataclass
class ManualClock:
    """A clock that the test sets."""

    seconds: float = 1_000.0

    def now(self) -> float:
        """Unix seconds."""
        return self.seconds

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self.seconds


@dataclass
class Leadership:
    """An elector with the leases that it stored."""

    clock: ManualClock = field(default_factory=ManualClock)
    stored: list[Lease] = field(default_factory=list)
    fenced: bool = False
    may_lead: bool = True
    elector: LeaderElector = field(init=False)

    def __post_init__(self) -> None:
        """Create the elector."""
        self.elector = LeaderElector(
            holder=ME, clock=self.clock, store=self._store, may_lead=lambda: self.may_lead
        )

    async def _store(self, key: str, value: bytes) -> None:
        if self.fenced:
            raise Fenced("another controller writes")
        assert key == LEASE_KEY
        self.stored.append(read_lease(read_object(value)))

    def observe(self, lease: Lease) -> None:
        """Let the elector read a lease that is stored now."""
        self.elector.observe(
            StoredRecord(
                topic=RESOURCES_TOPIC,
                partition=0,
                offset=0,
                timestamp_ms=int(self.clock.seconds * 1000),
                key=LEASE_KEY.encode(),
                value=write_object(lease.to_object()),
                headers=[],
            )
        )


async def test_each_term_has_a_higher_epoch() -> None:
    """The epoch of a term is above that of the lease that was read."""
    leadership = Leadership()
    leadership.observe(Lease("", 6))
    assert leadership.elector.may_acquire
    assert await leadership.elector.acquire() == 7
    assert (leadership.elector.epoch, leadership.elector.leader) == (7, ME)
    assert leadership.stored == [Lease(ME, 7)]


async def test_the_lease_is_renewed_in_the_same_term() -> None:
    """A renewal is due after the interval and keeps the epoch."""
    leadership = Leadership()
    await leadership.elector.acquire()
    assert leadership.elector.seconds_to_renewal == RENEW_SECONDS
    leadership.clock.seconds += RENEW_SECONDS
    assert leadership.elector.seconds_to_renewal == 0.0
    await leadership.elector.renew()
    assert leadership.elector.seconds_to_renewal == RENEW_SECONDS
    assert leadership.stored == [Lease(ME, 1), Lease(ME, 1)]


async def test_a_fenced_acquisition_changes_nothing() -> None:
    """The controller stays a standby, and names no leader that there is not."""
    leadership = Leadership(fenced=True)
    with pytest.raises(Fenced):
        await leadership.elector.acquire()
    assert (leadership.elector.epoch, leadership.elector.leader) == (None, "")


async def test_a_controller_that_lost_its_lease_waits_until_the_lease_is_stale() -> None:
    """Two controllers of one name must not fence each other without end."""
    leadership = Leadership()
    await leadership.elector.acquire()
    leadership.observe(Lease(ME, 2))
    assert leadership.elector.is_taken_over
    leadership.elector.step_down()
    assert leadership.elector.epoch is None
    leadership.clock.seconds += STALE_SECONDS
    assert not leadership.elector.may_acquire
    leadership.clock.seconds += 0.1
    assert leadership.elector.may_acquire


async def test_a_released_lease_may_be_acquired_at_once() -> None:
    """What is released has no holder and keeps its epoch."""
    leadership = Leadership()
    await leadership.elector.acquire()
    leadership.may_lead = False
    assert leadership.elector.must_release
    await leadership.elector.release()
    leadership.elector.step_down()
    assert leadership.stored[-1] == Lease("", 1)
    leadership.observe(leadership.stored[-1])
    assert not leadership.elector.may_acquire
    leadership.may_lead = True
    assert leadership.elector.may_acquire


async def test_a_standby_releases_nothing() -> None:
    """It would release the lease of the leader."""
    leadership = Leadership()
    leadership.observe(Lease(OTHER, 4))
    await leadership.elector.release()
    assert leadership.stored == []


async def test_a_standby_names_the_leader() -> None:
    """The client learns where to send its request."""
    leadership = Leadership()
    assert "no controller is the leader yet" in str(leadership.elector.not_leader_error())
    leadership.observe(Lease(OTHER, 4))
    assert f"controller {OTHER} is the leader" in str(leadership.elector.not_leader_error())
    leadership.observe(Lease(ME, 5))
    assert "this one is becoming it" in str(leadership.elector.not_leader_error())
