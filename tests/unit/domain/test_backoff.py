"""The pauses between failed attempts."""

from headrace.domain.backoff import Backoff


def test_each_failure_has_its_pause_and_the_last_one_repeats() -> None:
    """The first step is used after the first failure."""
    backoff = Backoff((0.1, 0.5, 2.0))
    assert [0.1, 0.5, 2.0, 2.0] == [backoff.seconds(failures) for failures in (1, 2, 3, 9)]


def test_the_longest_pause_is_the_last_step() -> None:
    """It applies to failures that a quick retry will not fix."""
    assert Backoff((0.1, 0.5, 2.0)).longest == 2.0
