"""Which messages are emitted, wait, or go back to Pub/Sub."""

from headrace.domain.event import Event
from headrace_sources.adapters.gcp_pubsub_leases import (
    REMEMBERED_MAX,
    HeldMessage,
    MessageLeases,
    Postponed,
)

DEADLINE = 30.0


def message(number: int, key: str = "", delivery: int = 1) -> HeldMessage:
    """A delivery of message `number`, of 10 bytes."""
    return HeldMessage(f"m{number}", f"m{number}:{delivery}", key, 10, Event({}))


def test_messages_without_a_key_are_all_emitted() -> None:
    """None waits for another one."""
    leases = MessageLeases(DEADLINE)
    for number in range(3):
        given = message(number)
        assert leases.receive(given, 0.0) is given
    assert (len(leases), leases.size) == (3, 30)


def test_messages_with_a_key_are_emitted_one_after_the_other() -> None:
    """Those of another key are not affected."""
    leases = MessageLeases(DEADLINE)
    first, second, other = message(1, "k"), message(2, "k"), message(3, "l")
    assert leases.receive(first, 0.0) is first
    assert leases.receive(second, 0.0) is None
    assert leases.receive(other, 0.0) is other
    assert leases.taken(first) is second
    assert leases.taken(second) is None
    assert leases.to_acknowledge() == [first, second]
    leases.acknowledged([first, second])
    assert (list(leases.ack_ids), leases.size) == (["m3:1"], 10)


def test_a_message_delivered_again_while_it_is_held_is_not_emitted_twice() -> None:
    """Its acknowledgement uses the id of the newest delivery, even after the sink has it."""
    leases = MessageLeases(DEADLINE)
    first = message(1)
    leases.receive(first, 0.0)
    assert leases.receive(message(1, delivery=2), 1.0) is None
    leases.taken(first)
    assert leases.receive(message(1, delivery=3), 2.0) is None
    assert [each.ack_id for each in leases.to_acknowledge()] == ["m1:3"]
    assert len(leases) == 1


def test_the_backoff_grows_with_each_failure_and_is_forgotten_after_a_success() -> None:
    """Pub/Sub takes 600 s at most."""
    leases = MessageLeases(DEADLINE)
    waits = []
    for delivery in range(8):
        given = message(1, delivery=delivery)
        leases.receive(given, 0.0)
        waits.append(leases.failed(given, 0.0).seconds)
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    assert (len(leases), leases.size) == (0, 0)
    given = message(1)
    leases.receive(given, 0.0)
    leases.taken(given)
    leases.acknowledged([given])
    leases.receive(given, 0.0)
    assert leases.failed(given, 0.0).seconds == 10


def test_with_a_failed_message_all_later_ones_of_its_key_go_back() -> None:
    """None of them overtakes it; other keys are not affected."""
    leases = MessageLeases(DEADLINE)
    first, second, third = (message(number, "k") for number in range(3))
    for each in (first, second):
        leases.receive(each, 0.0)
    assert leases.failed(first, 100.0) == Postponed(("m0:1", "m1:1"), 10)
    assert leases.receive(third, 101.0) == Postponed(("m2:1",), 10)
    other = message(9, "l")
    assert leases.receive(other, 101.0) is other
    again = message(0, "k", delivery=2)
    assert leases.receive(again, 110.0) is again
    assert leases.receive(second, 110.0) is None
    assert leases.taken(again) is second


def test_a_failed_message_that_does_not_return_is_not_waited_for_without_end() -> None:
    """It may have expired, or another process has it."""
    leases = MessageLeases(DEADLINE)
    first, second = message(1, "k"), message(2, "k")
    leases.receive(first, 0.0)
    leases.failed(first, 0.0)
    assert isinstance(leases.receive(second, 39.0), Postponed)
    assert leases.receive(second, 40.0) is second


def test_what_is_remembered_of_failures_is_bounded() -> None:
    """The oldest is forgotten."""
    leases = MessageLeases(DEADLINE)
    for number in range(REMEMBERED_MAX + 1):
        given = message(number, f"k{number}")
        leases.receive(given, 0.0)
        leases.failed(given, 0.0)
    oldest, newest = message(0, "k0"), message(REMEMBERED_MAX, f"k{REMEMBERED_MAX}")
    for given, seconds in ((oldest, 10), (newest, 20)):
        leases.receive(given, 0.0)
        assert leases.failed(given, 0.0).seconds == seconds
