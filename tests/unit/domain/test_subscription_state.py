"""The state that dispatchers report of a subscription can be written and read, and invalid text is
ignored.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.subscription_state import SubscriptionState, merge, read

states = st.builds(
    SubscriptionState,
    breaker=st.sampled_from(["", "open", "probing"]),
    refused=st.text(max_size=50),
    denied=st.text(max_size=50),
    loop=st.text(max_size=50),
    failing=st.text(max_size=50),
    filter_error=st.text(max_size=50),
    filter_failures=st.integers(0, 10**9),
    expired=st.integers(0, 10**9),
    stalled=st.integers(0, 100),
    retention_used=st.integers(0, 150),
    dead_letters=st.booleans(),
    sink_rejected=st.booleans(),
    changing=st.booleans(),
)


@given(states)
def test_reading_gives_what_was_written(state: SubscriptionState) -> None:
    """A state that is written and read again is the same."""
    assert state == read(state.write())


def test_nothing_to_say_is_no_text() -> None:
    """A healthy subscription adds no text to a report."""
    assert SubscriptionState().write() == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"expired": -1, "breaker": 7}',
        '{"future": true}',
        '{"stalled": true}',
        '{"deadLetters": 3}',
        '{"sinkRejected": 1}',
    ],
)
def test_what_is_not_understood_counts_as_well(text: str) -> None:
    """Text of another version must not raise an alarm."""
    assert SubscriptionState() == read(text)


def test_processes_add_up() -> None:
    """Counts are added, a flag is set if one process sets it, and the first text is used."""
    one = SubscriptionState(
        expired=2,
        dead_letters=True,
        sink_rejected=True,
        changing=True,
        filter_error="first",
        filter_failures=10,
    )
    other = SubscriptionState(
        breaker="open", expired=3, filter_error="second", filter_failures=1_000
    )
    merged = merge([one, other, SubscriptionState(refused="why")])
    assert (
        SubscriptionState(
            breaker="open",
            refused="why",
            expired=5,
            filter_error="first",
            filter_failures=1_000,
            dead_letters=True,
            sink_rejected=True,
            changing=True,
        )
        == merged
    )
