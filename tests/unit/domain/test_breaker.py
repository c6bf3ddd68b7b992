"""The breaker, by example; its properties are tested in tests/property."""

from pathlib import Path

import pytest

from headrace.domain.breaker import Breaker, BreakerRules, BreakerState, as_markdown, trips
from headrace.domain.delivery import Failure, Outcome

DOCUMENT = Path(__file__).parents[3] / "docs" / "delivery.md"
GOOD = Outcome(status=202)
BAD = Outcome(status=503)


def failing(
    breaker: Breaker,
    *,
    attempts: int = 50,
    events: int = 10,
    seconds: float = 5.0,
    start: float = 0.0,
) -> float:
    """Record failed attempts spread evenly over events and time; return the time of the
    last one.
    """
    now = start
    for number in range(attempts):
        now = start + seconds * number / (attempts - 1)
        breaker.record(number % events, BAD, now)
    return now


def opened(concurrency_max: int = 16) -> tuple[Breaker, float]:
    """Return a breaker that has just opened, and the time."""
    breaker = Breaker(concurrency_max)
    return breaker, failing(breaker)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_these_statuses_speak_of_the_whole_subscriber(status: int) -> None:
    """Overload and unavailability."""
    assert trips(Outcome(status=status))


@pytest.mark.parametrize("status", [200, 202, 301, 400, 404, 408, 409, 500, 501])
def test_other_statuses_speak_of_one_event(status: int) -> None:
    """They follow the delivery policy."""
    assert not trips(Outcome(status=status))


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure.CONNECT, True),
        (Failure.TIMEOUT, True),
        (Failure.RESET, True),
        (Failure.PROTOCOL, False),
        (Failure.REFUSED, False),
    ],
)
def test_failures_of_the_connection_speak_of_the_whole_subscriber(
    failure: Failure, expected: bool
) -> None:
    """A malformed answer and a denied address do not."""
    assert expected is trips(Outcome(failure=failure))


def test_a_long_streak_opens() -> None:
    """50 attempts, 10 events, 5 s."""
    breaker, now = opened()
    assert (BreakerState.OPEN, now + 1.0, 0) == (
        breaker.state,
        breaker.next_probe_at,
        breaker.allows(0, now),
    )


@pytest.mark.parametrize(
    ("attempts", "events", "seconds"), [(49, 10, 5.0), (50, 9, 5.0), (50, 10, 4.9)]
)
def test_a_shorter_streak_does_not_open(attempts: int, events: int, seconds: float) -> None:
    """All three limits must be reached."""
    breaker = Breaker(16)
    failing(breaker, attempts=attempts, events=events, seconds=seconds)
    assert BreakerState.CLOSED is breaker.state


def test_a_fast_streak_opens_once_it_has_lasted() -> None:
    """At a thousand failures a second the last 50 never span 5 s, but the streak does."""
    breaker = Breaker(16)
    failing(breaker, attempts=5_001, events=100, seconds=5.0)
    assert BreakerState.OPEN is breaker.state


def test_one_answer_ends_a_streak() -> None:
    """49 failures, an answer, 49 failures: the breaker stays closed."""
    breaker = Breaker(16)
    now = failing(breaker, attempts=49, seconds=10.0)
    breaker.record(0, Outcome(status=500), now)
    failing(breaker, attempts=49, seconds=10.0, start=now)
    assert BreakerState.CLOSED is breaker.state


def test_closed_allows_what_is_not_in_flight() -> None:
    """The result is never negative."""
    assert [16, 6, 0, 0] == [Breaker(16).allows(in_flight, 0.0) for in_flight in (0, 10, 16, 20)]


def test_a_due_probe_is_one() -> None:
    """One probe is allowed, regardless of attempts in flight from before the breaker opened."""
    breaker, now = opened()
    assert [0, 1] == [breaker.allows(5, now + 0.9), breaker.allows(5, now + 1.0)]
    breaker.started("probe")
    assert (BreakerState.PROBING, 0) == (breaker.state, breaker.allows(0, now + 100))


def test_failed_probes_are_further_and_further_apart() -> None:
    """From 1 s to 30 s."""
    breaker, now = opened()
    pauses = []
    for number in range(7):
        assert breaker.next_probe_at is not None
        pauses.append(breaker.next_probe_at - now)
        now = breaker.next_probe_at
        breaker.started(number)
        breaker.record(number, BAD, now)
    assert pytest.approx([1, 2, 4, 8, 16, 30, 30]) == pauses


def test_a_good_probe_reopens_gradually() -> None:
    """The limit doubles after as many consecutive answers as it permits concurrently."""
    breaker, now = opened(16)
    breaker.started("probe")
    breaker.record("probe", GOOD, now)
    allowed = []
    while breaker.state is BreakerState.REOPENING:
        allowed.append(breaker.allows(0, now))
        breaker.record("next", GOOD, now)
    assert [2] * 2 + [4] * 4 + [8] * 8 == allowed
    assert (BreakerState.CLOSED, 16) == (breaker.state, breaker.allows(0, now))


def test_a_failure_while_reopening_halves_what_is_allowed() -> None:
    """One failure does not open the breaker again, but reduces the limit."""
    breaker, now = opened(64)
    breaker.started("probe")
    for _ in range(7):
        breaker.record("probe", GOOD, now)
    assert 8 == breaker.allows(0, now)
    breaker.record("other", BAD, now)
    assert (BreakerState.REOPENING, 4) == (breaker.state, breaker.allows(0, now))


def test_a_long_streak_while_reopening_opens_again() -> None:
    """The rule is the same as the first time, and so is the first pause."""
    breaker, now = opened(64)
    breaker.started("probe")
    breaker.record("probe", GOOD, now)
    now = failing(breaker, start=now)
    assert (BreakerState.OPEN, now + 1.0) == (breaker.state, breaker.next_probe_at)


def test_a_straggler_that_fails_changes_nothing() -> None:
    """Attempts from before the breaker opened may fail while it is open. The time of the next probe
    stays the same.
    """
    breaker, now = opened()
    due = breaker.next_probe_at
    breaker.record("straggler", BAD, now + 0.5)
    assert due == breaker.next_probe_at
    breaker.started("probe")
    breaker.record("straggler", BAD, now + 1.5)
    assert BreakerState.PROBING is breaker.state


def test_a_straggler_that_is_answered_reopens() -> None:
    """Any answer shows that the subscriber is available again."""
    breaker, now = opened()
    breaker.record("straggler", GOOD, now)
    assert (BreakerState.REOPENING, None) == (breaker.state, breaker.next_probe_at)


def test_a_withdrawn_probe_is_followed_by_another_at_once() -> None:
    """After a revocation, the breaker must not wait for an answer that never arrives."""
    breaker, now = opened()
    breaker.started("probe")
    breaker.withdraw("other", now + 2)
    assert BreakerState.PROBING is breaker.state
    breaker.withdraw("probe", now + 2)
    assert (BreakerState.OPEN, 1) == (breaker.state, breaker.allows(0, now + 2))


def test_a_subscription_with_one_lane_closes_with_the_first_answer() -> None:
    """The limit is already at its maximum."""
    breaker, now = opened(1)
    breaker.started("probe")
    breaker.record("probe", GOOD, now)
    assert BreakerState.CLOSED is breaker.state


def test_the_rules_can_be_others() -> None:
    """Tests and operators may need a breaker that opens earlier."""
    breaker = Breaker(4, BreakerRules(attempts_min=1, events_min=1, span_seconds=0.0))
    breaker.record("event", BAD, 0.0)
    assert BreakerState.OPEN is breaker.state


def test_the_document_shows_the_table() -> None:
    """docs/delivery.md contains the table that the code uses."""
    assert as_markdown() in DOCUMENT.read_text()
