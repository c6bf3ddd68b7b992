"""The pauses between failed attempts."""

import pytest

from headrace.domain.backoff import Backoff


def test_each_failure_has_its_pause_and_the_last_one_repeats() -> None:
    """The first step is used after the first failure."""
    backoff = Backoff((0.1, 0.5, 2.0))
    assert [0.1, 0.5, 2.0, 2.0] == [backoff.seconds(failures) for failures in (1, 2, 3, 9)]


@pytest.mark.parametrize("failures", [0, -1])
def test_failures_are_counted_from_one(failures: int) -> None:
    """A caller that counts from 0 would otherwise begin with the longest pause."""
    with pytest.raises(ValueError, match=f"counted from 1: failures={failures}"):
        Backoff((0.1, 0.5, 2.0)).seconds(failures)


def test_a_backoff_has_a_pause() -> None:
    """Otherwise the first failure would raise IndexError."""
    with pytest.raises(ValueError, match="at least one pause"):
        Backoff(())


def test_the_longest_pause_is_the_last_step() -> None:
    """It applies to failures that a quick retry will not fix."""
    assert Backoff((0.1, 0.5, 2.0)).longest == 2.0
