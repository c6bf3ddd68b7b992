"""The limit of concurrent requests follows the speed of the subscriber."""

import pytest

from headrace.domain.concurrency import FORGET_ROUNDS, Concurrency


def answer(concurrency: Concurrency, seconds: float, *, rounds: int, queued: bool = True) -> None:
    for _ in range(rounds):
        while not concurrency.answered(seconds):
            pass
        concurrency.decide(queued=queued)


def test_grows_to_the_maximum_while_answers_stay_as_fast() -> None:
    """A slow subscriber with constant answer times gets the maximum."""
    concurrency = Concurrency(floor=16, maximum=128)
    answer(concurrency, 0.05, rounds=20)
    assert 128 == concurrency.limit


@pytest.mark.clause("D10")
def test_shrinks_to_the_floor_when_answers_queue() -> None:
    """Answers that take three times as long as the fastest show that additional requests
    only wait.
    """
    concurrency = Concurrency(floor=16, maximum=128)
    answer(concurrency, 0.001, rounds=20)
    answer(concurrency, 0.003, rounds=20)
    assert 16 == concurrency.limit


def test_does_not_grow_unasked() -> None:
    """If no record waits, a higher limit would have no effect."""
    concurrency = Concurrency(floor=16, maximum=128)
    answer(concurrency, 0.05, rounds=20, queued=False)
    assert 16 == concurrency.limit


def test_gets_used_to_a_subscriber_that_became_slower() -> None:
    """After a while the fastest answer is forgotten and the limit grows again."""
    concurrency = Concurrency(floor=16, maximum=128)
    answer(concurrency, 0.001, rounds=10)
    answer(concurrency, 0.1, rounds=2 * FORGET_ROUNDS + 20)
    assert 128 == concurrency.limit


@pytest.mark.parametrize(("floor", "maximum"), [(0, 10), (11, 10)])
def test_refuses_bounds_that_cannot_be(floor: int, maximum: int) -> None:
    """The error contains both values."""
    with pytest.raises(ValueError, match=f"floor={floor}, maximum={maximum}"):
        Concurrency(floor=floor, maximum=maximum)
