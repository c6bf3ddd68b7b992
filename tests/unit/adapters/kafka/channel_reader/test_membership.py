"""When a reader may commit for the groups of its subscriptions."""

from headrace.adapters.kafka.channel_reader.membership import ReaderMembership


class Member:
    """A member whose group has confirmed it at this time."""

    confirmed_at = float("-inf")
    has_partitions = True
    has_lost_more = False

    def confirm_membership(self) -> None: ...


class Clock:
    """Seconds that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(membership: ReaderMembership, clock: Clock, seconds: float) -> None:
    """Let the loop run for so long."""
    for _ in range(10):
        clock.now += seconds / 10
        membership.tick()


async def test_an_assignment_confirms_for_half_a_session() -> None:
    clock, member = Clock(), Member()
    membership = ReaderMembership(member, clock=clock)
    assert not membership.confirmed()
    membership.on_owned()
    run(membership, clock, 2.9)
    assert membership.confirmed()
    clock.now += 0.2
    assert not membership.confirmed()
    member.confirmed_at = clock.now
    assert membership.confirmed()


async def test_a_revocation_after_a_suspension_confirms_nothing() -> None:
    """The group may have given the partitions to others while this process was suspended. An answer
    to a commit that was sent since shows that it has not.
    """
    clock, member = Clock(), Member()
    membership = ReaderMembership(member, clock=clock)
    membership.on_owned()
    member.confirmed_at = clock.now
    clock.now += 8.0
    membership.on_owned()
    assert not membership.confirmed()
    clock.now += 0.5
    membership.tick()
    membership.on_owned()
    assert not membership.confirmed()
    member.confirmed_at = clock.now
    clock.now += 1.0
    membership.tick()
    membership.on_owned()
    run(membership, clock, 2.5)
    assert membership.confirmed()


async def test_a_machine_that_was_suspended_confirms_nothing() -> None:
    """The seconds of the loop stand still meanwhile, as in a paused virtual machine."""
    clock, wall, member = Clock(), Clock(), Member()
    membership = ReaderMembership(member, clock=clock, wall_clock=wall)
    membership.on_owned()
    member.confirmed_at = clock.now
    clock.now += 1.0
    wall.now += 1.0
    assert membership.confirmed()
    clock.now += 0.1
    wall.now += 60.0
    assert not membership.confirmed()
    member.confirmed_at = clock.now
    assert membership.confirmed()


async def test_nothing_is_confirmed_before_a_loss_is_handled() -> None:
    """The thread has lost partitions, and the feeds would still commit for them."""
    member = Member()
    membership = ReaderMembership(member)
    membership.on_owned()
    member.has_lost_more = True
    assert not membership.confirmed()
    member.has_lost_more = False
    assert membership.confirmed()


async def test_a_change_is_counted() -> None:
    """So that what was read before it is not used."""
    membership = ReaderMembership(Member())
    membership.on_owned()
    membership.on_lost()
    assert membership.changes == 2
