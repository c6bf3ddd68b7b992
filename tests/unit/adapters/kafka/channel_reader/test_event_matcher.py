"""Which feeds want a record, and what is known about it afterwards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from headrace.adapters.kafka.channel_reader.event_matcher import EventMatcher
from headrace.adapters.kafka.channel_reader.record_guard import NoGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.adapters.kafka.consumer.positions import Position
from headrace.codec import http, kafka
from headrace.domain import filters
from headrace.domain.feed import FeedBounds, FeedConfig
from headrace.domain.record import Partition, StoredRecord
from tests.support.event_builders import record_headers, stored
from tests.unit.adapters.kafka.channel_reader.test_subscription_feed import RecordedReader

ORDERS: Sequence[Mapping[str, Any]] = [{"exact": {"type": "order.placed"}}]
BILLS: Sequence[Mapping[str, Any]] = [{"cesql": "type = 'bill.sent'"}]
ORDER = record_headers(("content-type", b"text/plain"), type=b"order.placed")
STRUCTURED = (
    b'{"specversion":"1.0","id":"1","source":"/s","type":"order.placed","subject":"caf\xc3\xa9"}'
)


CASTS: Sequence[Mapping[str, Any]] = [{"cesql": "INT(type) = 1"}]
"""Fails for every type that is not a number."""


class PoisonGuard(NoGuard):
    """Knows one record that stalls the loop: that of `stored`."""

    poison = ((3, 42),)


def feed_of(
    group: str,
    entries: Sequence[Mapping[str, Any]] = (),
    *,
    failed: Callable[[str], None] = lambda group: None,
    following: bool = True,
) -> SubscriptionFeed:
    """A feed with these filters, which owns the partition of `stored`. `failed` is called with the
    group for each evaluation that fails.
    """
    filter = filters.compile(entries, on_error=lambda problem: failed(group))
    config = FeedConfig(group=group, topics=("t",), bounds=FeedBounds(), filter=filter)
    feed = SubscriptionFeed(config, RecordedReader(), lambda _: None)
    feed.assign(Position(Partition("t", 3), 0, ""))
    if following:
        feed.follow(3)
    return feed


def matcher_of(
    *feeds: SubscriptionFeed, guard: NoGuard | None = None
) -> tuple[EventMatcher, Sequence[SubscriptionFeed]]:
    """The matcher of these feeds."""
    matcher = EventMatcher(guard or NoGuard())
    for feed in feeds:
        matcher.add(feed)
    return matcher, feeds


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("order.placed", ["orders", "all"]), ("bill.sent", ["bills", "all"]), ("other", ["all"])],
)
async def test_the_feeds_whose_filters_pass_want_it(kind: str, expected: list[str]) -> None:
    """However many are asked about; a changed filter applies to the next record."""
    matcher, feeds = matcher_of(feed_of("orders", ORDERS), feed_of("bills", BILLS), feed_of("all"))
    for find in (matcher.wanted, matcher.wanted_by_few):
        record = stored(record_headers(type=kind.encode()))
        assert sorted(expected) == sorted(feed.group for feed in find(record, feeds))
        assert record.examined
        # It was held, and is looked at again.
        assert sorted(expected) == sorted(feed.group for feed in find(record, feeds))
    feeds[0].filter = filters.compile(BILLS)
    matcher.add(feeds[0])
    assert feeds[0] not in matcher.wanted(stored(ORDER), feeds)


async def test_what_is_taken_has_the_lines_of_its_request() -> None:
    """They are the same for all subscribers. What nobody takes has none: a feed that is behind
    wants it, and gets it later.
    """
    matcher, feeds = matcher_of(feed_of("orders", ORDERS), feed_of("bills", BILLS))
    for find in (matcher.wanted, matcher.wanted_by_few):
        record, other = stored(ORDER), stored(ORDER)
        assert list(find(record, feeds))
        assert kafka.attributes(ORDER) == record.attributes
        assert record.header_lines is None
        matcher.write_header_lines(other)
        assert other.header_lines is None
        matcher.write_header_lines(record)
        assert http.write_binary(ORDER) == record.header_lines


async def test_a_record_whose_lines_cannot_be_written_is_examined_by_its_listeners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matcher, feeds = matcher_of(feed_of("all"))

    def failing(*_: object) -> bytes:
        raise RuntimeError("an error in the code that writes lines")

    monkeypatch.setattr(http, "binary_lines", failing)
    record = stored(ORDER)
    assert list(matcher.wanted(record, feeds))
    matcher.write_header_lines(record)
    assert (record.examined, record.header_lines) == (False, None)


async def test_a_header_that_could_end_a_line_is_left_out_by_the_request() -> None:
    matcher, feeds = matcher_of(feed_of("all"))
    record = stored([*ORDER, ("traceparent", b"a\r\nHost: b")])
    assert list(matcher.wanted(record, feeds))
    matcher.write_header_lines(record)
    assert record.header_lines is None
    assert b"Host" not in http.write_binary(record.headers)


async def test_a_structured_record_becomes_binary() -> None:
    matcher, feeds = matcher_of(feed_of("orders", ORDERS))
    record = stored([("content-type", b"application/cloudevents+json")], STRUCTURED)
    assert list(matcher.wanted(record, feeds)) == list(feeds)
    assert ("ce_type", b"order.placed") in list(record.headers)
    matcher.write_header_lines(record)
    assert http.write_binary(record.headers) == record.header_lines


@pytest.mark.parametrize(
    ("record", "guard"),
    [
        (stored([("ce_type", b"order.placed")]), NoGuard()),
        (stored([]), NoGuard()),
        (stored(ORDER), PoisonGuard()),
    ],
    ids=["no id", "no headers", "stalls the loop"],
)
async def test_all_feeds_get_what_is_not_examined(record: StoredRecord, guard: NoGuard) -> None:
    """Their listeners find out what is wrong with it."""
    matcher, feeds = matcher_of(feed_of("orders", ORDERS), feed_of("bills", BILLS), guard=guard)
    assert list(matcher.wanted(record, feeds)) == list(feeds)
    assert list(matcher.wanted_by_few(record, feeds[:1])) == list(feeds[:1])
    assert not record.examined


async def test_listeners_count_a_misplaced_content_type() -> None:
    matcher, feeds = matcher_of(feed_of("orders", ORDERS))
    record = stored([*ORDER, ("ce_datacontenttype", b"a/b")])
    assert list(matcher.wanted(record, feeds)) == list(feeds)
    assert not record.examined


async def test_without_conditions_attributes_are_not_decoded() -> None:
    """They are when a filter is added while the record is held."""
    matcher, feeds = matcher_of(feed_of("one"), feed_of("two"))
    record = stored(ORDER)
    assert list(matcher.wanted(record, feeds)) == list(feeds)
    assert record.attributes is None
    matcher.add(bills := feed_of("bills", BILLS))
    assert bills not in matcher.wanted(record, feeds)
    assert kafka.attributes(ORDER) == record.attributes


@pytest.mark.parametrize("count", [1, 4])
async def test_a_failed_filter_is_counted_once_for_a_record(count: int) -> None:
    """Also when the record is evaluated again because a feed had no room, and when the reader
    evaluates it again for feeds that are behind.
    """
    failures: list[str] = []
    ahead = [feed_of(f"ahead{n}", CASTS, failed=failures.append) for n in range(count)]
    behind = [
        feed_of(f"behind{n}", CASTS, failed=failures.append, following=False) for n in range(count)
    ]
    matcher, feeds = matcher_of(*ahead, *behind, feed_of("all"))
    record = stored(ORDER)
    for _ in range(3):
        matcher.wanted(record, feeds)
    assert [feed.group for feed in ahead] == failures
    failures.clear()
    for find in (matcher.wanted, matcher.wanted_by_few):
        find(stored(ORDER), behind, following=False)
    assert [feed.group for feed in behind] == failures
    for feed in behind:
        feed.follow(3)
    failures.clear()
    matcher.wanted(stored(ORDER), feeds)
    assert [] == failures
    later = stored(ORDER)
    later.offset += 1
    matcher.wanted(later, feeds)
    assert sorted(feed.group for feed in (*ahead, *behind)) == sorted(failures)


async def test_a_filter_that_fails_twice_for_a_record_is_counted_twice() -> None:
    """Once for each expression, as by a consumer of its own."""
    failures: list[str] = []
    either = [{"any": [*CASTS, {"cesql": "INT(source) = 1"}]}]
    matcher, feeds = matcher_of(feed_of("orders", either, failed=failures.append), feed_of("all"))
    matcher.wanted(stored(ORDER), feeds)
    assert ["orders", "orders"] == failures


async def test_a_failed_filter_of_what_listeners_examine_is_counted_by_them() -> None:
    """Those whose filters do not pass do not get the record, so the reader counts them."""
    failures: list[str] = []
    matcher, feeds = matcher_of(
        feed_of("passes", [{"not": CASTS[0]}], failed=failures.append),
        feed_of("fails", CASTS, failed=failures.append),
    )
    record = stored([*ORDER, ("ce_datacontenttype", b"a/b")])
    assert [feeds[0]] == list(matcher.wanted(record, feeds))
    assert ["fails"] == failures
