"""Which topics a dispatcher asks about, and when: all of them from time to time, and at once only
those that were added.
"""

from collections.abc import Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from headrace.domain.errors import LogUnavailable
from headrace.domain.feed import Backlog
from headrace.domain.record import Record
from headrace_dispatcher import dead_letter_count, dispatcher
from tests.support.wait_until import wait_until_async
from tests.unit.dispatcher.harness import DEAD, RETRY, retry_headers, subscription
from tests.unit.dispatcher.test_supervisor import OTHER_ROUTE, MemoryDispatcher, memory_dispatcher

OTHER_RETRY, OTHER_DEAD = OTHER_ROUTE.retry_topic, OTHER_ROUTE.dead_topic


def requests(each: MemoryDispatcher, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The topics of each request for backlogs."""
    asked: list[list[str]] = []
    read = each.feeds.backlog

    async def record(groups: Mapping[str, Sequence[str]]) -> Backlog:
        asked.append([topic for topics in groups.values() for topic in topics])
        return await read(groups)

    monkeypatch.setattr(each.feeds, "backlog", record)
    monkeypatch.setattr(dead_letter_count, "_TOGETHER_SECONDS", 0.0)
    return asked


async def test_topics_that_were_added_are_asked_about_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand Triggers that are created one after the other cost a thousand such requests, not
    the square of it.
    """
    async with memory_dispatcher() as each:
        asked = requests(each, monkeypatch)
        each.routes.put(subscription())
        await each.dispatcher.start()
        await wait_until_async(lambda: [RETRY] in asked and [DEAD] in asked, what="the first")
        asked.clear()
        each.routes.put(OTHER_ROUTE)
        await wait_until_async(lambda: len(asked) >= 2, what="the second")
        assert [[OTHER_DEAD], [OTHER_RETRY]] == sorted(asked)


async def test_all_topics_are_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of a process that has ended are found, those that were there before others too."""
    monkeypatch.setattr(dispatcher, "BACKLOG_SECONDS", 0.05)
    async with memory_dispatcher() as each:
        asked = requests(each, monkeypatch)
        each.routes.put(subscription())
        each.routes.put(OTHER_ROUTE)
        await each.dispatcher.start()
        both = sorted([RETRY, OTHER_RETRY])
        await wait_until_async(
            lambda: [sorted(topics) for topics in asked].count(both) >= 3,
            what="all, again and again",
        )
        each.log.append(RETRY, Record(None, b"{}", retry_headers()), lambda _: None)
        url = subscription().subscriber.url
        await wait_until_async(lambda: each.sent(url) == 1, what="the retry is sent")


async def test_an_outage_is_logged_once_in_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each request, every two seconds; the next line has the number of those between."""
    monkeypatch.setattr(dispatcher, "BACKLOG_SECONDS", 0.01)
    failed = 0

    async def fail(_: Mapping[str, Sequence[str]]) -> Backlog:
        nonlocal failed
        failed += 1
        raise LogUnavailable("Kafka does not answer")

    def lines() -> list[Mapping[str, object]]:
        return [each for each in logs if each["event"] == "backlog_unknown"]

    async with memory_dispatcher() as each:
        monkeypatch.setattr(each.feeds, "backlog", fail)
        each.routes.put(subscription())
        with capture_logs() as logs:
            await each.dispatcher.start()
            # The count of dead letters is one more request.
            await wait_until_async(lambda: failed >= 5, what="some failures")
            assert 1 == len(lines())
            assert "suppressed" not in lines()[0]
            assert str(lines()[0]["next_step"]).startswith("check Kafka")
            each.clock.ahead += 31.0
            await wait_until_async(lambda: len(lines()) == 2, what="a line half a minute later")
            assert 3 <= int(str(lines()[1]["suppressed"]))
