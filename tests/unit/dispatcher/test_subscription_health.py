"""What a subscription reports each second: computed again only as far as it may have changed."""

from collections.abc import Mapping

import pytest
import structlog.testing

from headrace.domain.delivery import Failure, Outcome
from headrace.domain.feed import AlarmKind, FeedAlarm
from headrace.domain.ports import NO_LAG, Lag
from headrace.domain.record import Partition
from headrace.domain.subscription_state import HEALTHY, SubscriptionState
from headrace_dispatcher import subscription_health
from headrace_dispatcher.subscription_worker import SubscriptionWorker
from tests.unit.dispatcher.harness import dispatcher_harness, subscription

PARTITION = Partition("channel", 0)
UNREACHABLE = Outcome(failure=Failure.CONNECT)


class SetLag:
    """Replaces the lag of a worker's feed."""

    def __init__(self, worker: SubscriptionWorker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lags: Mapping[Partition, Lag] = {PARTITION: NO_LAG}
        assert worker.lanes.live is not None
        monkeypatch.setattr(worker.lanes.live.lane.feed, "lag", lambda: self.lags)


async def test_lag_that_is_the_same_is_not_summed_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand idle subscriptions are healthy at the cost of a few comparisons each."""
    sums = 0
    sum_up = subscription_health._summary

    def count(lags: Mapping[Partition, Lag]) -> object:
        nonlocal sums
        sums += 1
        return sum_up(lags)

    monkeypatch.setattr(subscription_health, "_summary", count)
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        SetLag(worker, monkeypatch)
        for _ in range(1_000):
            assert HEALTHY == worker.report()
        assert 1 == sums


async def test_the_state_changes_when_lag_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition without progress stalls after 10 s, and is reported as long as it is."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        feed = SetLag(worker, monkeypatch)
        assert HEALTHY == worker.report()
        for seconds, stalled in ((9.9, 0), (10.1, 1)):
            feed.lags = {PARTITION: Lag(3, None, seconds)}
            assert SubscriptionState(stalled=stalled) == worker.report()
        feed.lags = {PARTITION: NO_LAG}
        assert HEALTHY == worker.report()


async def test_a_record_gets_older_while_its_lag_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its age is that at the time of the report."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker(retention_seconds=1_000)
        feed = SetLag(worker, monkeypatch)
        feed.lags = {PARTITION: Lag(1, int(harness.clock.now() * 1000), 0.0)}
        assert HEALTHY == worker.report()
        harness.clock.ahead += 601.0
        assert 60 == worker.report().retention_used


async def test_the_state_changes_with_the_breaker_and_its_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any lag."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        SetLag(worker, monkeypatch)
        assert HEALTHY == worker.report()
        breaker = worker._gate.breaker
        for number in range(50):
            breaker.record(number, UNREACHABLE, 0.2 * number)
        assert SubscriptionState(breaker="open") == worker.report()
        worker.apply(subscription(generation=2, breaker=False))
        assert HEALTHY == worker.report()


async def test_a_breaker_that_reopens_is_reported_while_events_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It closes after more answers than a subscription with few events has: the Trigger was shown
    as unhealthy until then, although its subscriber answers and nothing waits.
    """
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        feed = SetLag(worker, monkeypatch)
        breaker = worker._gate.breaker
        for number in range(50):
            breaker.record(number, UNREACHABLE, 0.2 * number)
        breaker.started("probe")
        breaker.record("probe", Outcome(status=200), 12.0)
        assert HEALTHY == worker.report()
        feed.lags = {PARTITION: Lag(3, None, 0.0)}
        assert SubscriptionState(breaker="reopening") == worker.report()


@pytest.mark.parametrize(("deleted", "level"), [(False, "warning"), (True, "info")])
async def test_a_deleted_topic_is_no_alarm_of_a_deleted_subscription(
    deleted: bool, level: str
) -> None:
    """Its reader may notice that before it has ended. Otherwise the line names what to do."""
    async with dispatcher_harness() as harness:
        worker = harness.start_worker()
        if deleted:
            await worker.stop(leave=True)
        with structlog.testing.capture_logs() as lines:
            worker.health.on_feed_alarm(
                FeedAlarm(kind=AlarmKind.TOPIC_MISSING, group="group", detail="gone")
            )
    assert [level] == [line["log_level"] for line in lines]
    assert deleted is ("next_step" not in lines[0])
    assert {"partition", "count"}.isdisjoint(lines[0])
