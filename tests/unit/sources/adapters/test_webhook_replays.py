"""Which requests are copies."""

from headrace.adapters.memory.clock import MemoryClock
from headrace_sources.adapters.webhook_replays import Replay, ReplayWindow


def test_a_request_is_new_then_in_flight_then_taken() -> None:
    """Until the window is over."""
    clock = MemoryClock()
    window = ReplayWindow(600.0, clock)
    assert window.begin(b"a") is Replay.NEW
    assert window.begin(b"a") is Replay.IN_FLIGHT
    window.end(b"a", taken=True)
    clock.advance(599.0)
    assert window.begin(b"a") is Replay.TAKEN
    clock.advance(1.0)
    assert window.begin(b"a") is Replay.NEW


def test_a_request_that_was_not_taken_is_new() -> None:
    """So that it can be sent again."""
    window = ReplayWindow(600.0, MemoryClock())
    window.begin(b"a")
    window.end(b"a", taken=False)
    assert window.begin(b"a") is Replay.NEW


def test_a_request_without_a_key_is_always_new() -> None:
    """Its signature has no time."""
    window = ReplayWindow(600.0, MemoryClock())
    for _ in range(2):
        assert window.begin(b"") is Replay.NEW
        window.end(b"", taken=True)


def test_a_bounded_number_is_remembered() -> None:
    """The oldest is forgotten."""
    window = ReplayWindow(600.0, MemoryClock(), requests_max=3)
    for key in (b"a", b"b", b"c", b"d"):
        assert window.begin(key) is Replay.NEW
        window.end(key, taken=True)
    assert window.begin(b"d") is Replay.TAKEN
    assert window.begin(b"a") is Replay.NEW
