"""A filter that fails is reported, with the first error and about how often it fails."""

import pytest

from headrace.domain import filters
from headrace.domain.cesql import ErrorKind, Problem
from headrace.domain.routing import DeliveryOrder
from headrace_dispatcher.failing_filter import NO_FAILURES, FailingFilter, describe
from headrace_dispatcher.limits import RECENT_SECONDS
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import CHANNEL, dispatcher_harness, subscription

CAST = Problem(ErrorKind.CAST, "'secret' is no Integer", "a value is no Integer", "INT(type) = 1")
MISSING = Problem(ErrorKind.MISSING_ATTRIBUTE, "the event has no attribute a", "", "a = 1")
NOW = 5_000.0


def note(failing: FailingFilter, times: int, problem: Problem = CAST) -> None:
    """Note as many failures."""
    for _ in range(times):
        failing.note(problem)


def test_the_first_error_is_reported_for_ten_minutes() -> None:
    """Then the next one is the first."""
    failing = FailingFilter()
    assert NO_FAILURES == failing.current(NOW)
    note(failing, 1)
    note(failing, 2, MISSING)
    for seconds in range(0, int(RECENT_SECONDS), 10):
        assert (describe(CAST), 1) == failing.current(NOW + seconds)
    assert NO_FAILURES == failing.current(NOW + RECENT_SECONDS)
    note(failing, 1, MISSING)
    assert (describe(MISSING), 1) == failing.current(NOW + RECENT_SECONDS + 1)
    failing.clear()
    assert NO_FAILURES == failing.current(NOW + RECENT_SECONDS + 2)


def test_a_steady_rate_does_not_change_what_is_reported() -> None:
    """Not even close to a power of ten. It follows when the rate changes."""
    failing = FailingFilter()
    orders = []
    for minute in range(60):
        note(failing, 10 + minute % 3)
        orders.append(failing.current(NOW + 60.0 * minute).order)
    assert [10, 100] == list(dict.fromkeys(orders))
    assert {100} == set(orders[12:])
    note(failing, 5_000)
    assert 1_000 == failing.current(NOW + 3_600.0).order
    for minute in range(1, 11):
        note(failing, 2)
        order = failing.current(NOW + 3_600.0 + 60.0 * minute).order
    assert 10 == order


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("type + 1 = 2", "a value is no Integer, in type + 1 = 2"),
        ("amount > 1", "the event has no attribute amount, in amount > 1"),
        ("1 / (LENGTH(type) - 12) = 1", "a number is divided by 0, in 1 / (LENGTH(type) - 12) = 1"),
        ("LEFT(type, -1) = 'a'", "the count of LEFT is negative, in LEFT(type, -1) = 'a'"),
        ("LENGTH(type)", "the result has type Integer, a filter needs a Boolean, in LENGTH(type)"),
    ],
)
def test_what_failed_is_described_without_values(expression: str, expected: str) -> None:
    """By the rule that it broke, and by the expression."""
    problems: list[Problem] = []
    compiled = filters.compile([{"cesql": expression}], on_error=problems.append)
    assert not compiled.matches({"type": "order.placed", "id": "1", "source": "/"})
    assert [expected] == [describe(each) for each in problems]


def test_a_long_expression_is_shortened() -> None:
    text = describe(CAST.within("a" * 8_000))
    assert 160 > len(text)
    assert text.endswith("a…")


def test_an_error_of_which_nothing_is_known_is_named_by_its_kind() -> None:
    assert "an error of kind cast" == describe(Problem(ErrorKind.CAST, "'secret'"))


async def test_a_failing_filter_is_in_the_report_until_it_is_changed() -> None:
    """Nothing else says why no event arrives."""
    failing = ({"cesql": "INT(type) = 1"},)
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(filters=failing)
        assert "" == worker.report().filter_error
        await harness.publish("a", "b")
        await wait_until_async(
            lambda: harness.committed("group", CHANNEL) == 2, what="no event passes"
        )
        reported = worker.report()
        assert ("a value is no Integer, in INT(type) = 1", 1) == (
            reported.filter_error,
            reported.filter_failures,
        )
        worker.apply(subscription(generation=2, filters=failing, order=DeliveryOrder.ORDERED))
        assert reported == worker.report()
        worker.apply(subscription(generation=3))
        assert "" == worker.report().filter_error
