"""A subscription whose attempts all fail says so, and why, before any event is a dead letter."""

from headrace.domain.delivery import DeliveryPolicy, Outcome
from headrace_dispatcher.failing_attempts import FAILING_SECONDS, FailingAttempts
from headrace_dispatcher.limits import RECENT_SECONDS
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import RETRY, SUBSCRIBER, dispatcher_harness

LATER = 100.0


def test_failures_count_after_some_seconds_without_a_success() -> None:
    """The first error of them is named, and a success ends it."""
    failing = FailingAttempts()
    assert "" == failing.current(0, LATER)
    failing.note("first", 3, LATER)
    assert "" == failing.current(3, LATER + FAILING_SECONDS - 0.1)
    failing.note("second", 3, LATER + FAILING_SECONDS)
    assert "first" == failing.current(3, LATER + FAILING_SECONDS)
    assert "" == failing.current(4, LATER + FAILING_SECONDS)
    failing.note("third", 4, LATER + FAILING_SECONDS)
    assert "" == failing.current(4, LATER + FAILING_SECONDS + 1)
    assert "third" == failing.current(4, LATER + 2 * FAILING_SECONDS)


def test_old_failures_do_not_count() -> None:
    """Nothing has been tried for ten minutes: nobody knows."""
    failing = FailingAttempts()
    failing.note("error", 0, LATER)
    assert "error" == failing.current(0, LATER + RECENT_SECONDS)
    assert "" == failing.current(0, LATER + RECENT_SECONDS + 1)


async def test_one_event_that_fails_is_reported_with_its_destination() -> None:
    """The breaker is closed, and nothing is a dead letter: only this says that nothing arrives."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(delivery=DeliveryPolicy(retry=3, delay_seconds=60.0))
        harness.sender.script(SUBSCRIBER, Outcome(status=503), Outcome(status=204))
        await harness.publish("a")
        await wait_until_async(lambda: len(harness.records(RETRY)) == 1, what="a retry is stored")
        assert "" == worker.report().failing
        harness.clock.ahead += FAILING_SECONDS
        assert f"{SUBSCRIBER}: status 503" == worker.report().failing
        await harness.publish("b")
        await wait_until_async(lambda: worker.metrics.delivered.value == 1, what="b is delivered")
        assert "" == worker.report().failing
