"""Reads the headers of a record once for all feeds, and finds those that want it."""

from collections.abc import Collection, Mapping
from typing import Final

import structlog

from headrace.adapters.kafka.channel_reader.record_guard import RecordGuard
from headrace.adapters.kafka.channel_reader.subscription_feed import SubscriptionFeed
from headrace.codec import http, kafka
from headrace.codec.record_layout import RecordLayout
from headrace.domain.cesql import Problem
from headrace.domain.event import InvalidEvent
from headrace.domain.filter_index import FilterIndex
from headrace.domain.filters import Filter
from headrace.domain.record import StoredRecord
from headrace.runtime.failpoints import stall_point, stall_points_armed

logger = structlog.get_logger(__name__)

_NO_ATTRIBUTES: Final[Mapping[str, str]] = {}


class EventMatcher:
    """The filters of the feeds of one reader."""

    __slots__ = ("_failures", "_filters", "_guard", "_headers", "_index", "_misplaced")

    def __init__(self, guard: RecordGuard) -> None:
        self._guard = guard
        self._index: FilterIndex[SubscriptionFeed] = FilterIndex()
        self._filters: dict[SubscriptionFeed, Filter] = {}
        """Those of the feeds, which report to `_failures`."""
        self._failures: list[tuple[SubscriptionFeed, Problem]] = []
        """The evaluations of the present record that have failed."""
        self._misplaced = False
        """Whether the record that is read has a `ce_datacontenttype` header."""
        self._headers: tuple[StoredRecord, RecordLayout, tuple[bytes, ...]] | None = None
        """The record that was read last, and its headers; None if it is not an event."""

    def add(self, feed: SubscriptionFeed) -> None:
        """Add a feed, or use its changed filter."""

        def note(problem: Problem) -> None:
            self._failures.append((feed, problem))

        filter = self._filters[feed] = Filter(feed.filter.root, note)
        self._index.add(feed, filter)

    def remove(self, feed: SubscriptionFeed) -> None:
        """Remove a feed."""
        self._index.remove(feed)
        del self._filters[feed]

    def wanted(
        self,
        record: StoredRecord,
        feeds: Collection[SubscriptionFeed],
        *,
        following: bool = True,
    ) -> Collection[SubscriptionFeed]:
        """Return the feeds whose filters the record passes; all `feeds` if it is not an event, or
        cannot be examined: no feed may miss it.

        `following` says whether it is read for the feeds that follow the reader or for feeds that
        are behind; all filters may be evaluated in both cases.
        """
        index = self._index
        try:
            if record.examined:
                found = index.matching(_attributes(record) if index.conditional else _NO_ATTRIBUTES)
            else:
                headers = self._read(record)
                if headers is None:
                    return feeds
                attributes = _NO_ATTRIBUTES
                if index.conditional:
                    attributes = record.attributes = kafka.attributes_of(*headers)
                found = index.matching(attributes)
            if self._failures:
                self._report_failures(record, feeds, found, following=following)
        except Exception as error:
            self._not_examined(record, error)
            return feeds
        return found

    def wanted_by_few(
        self,
        record: StoredRecord,
        feeds: Collection[SubscriptionFeed],
        *,
        following: bool = True,
    ) -> Collection[SubscriptionFeed]:
        """As `wanted`, of these feeds: each filter is evaluated by itself."""
        filters = self._filters
        try:
            if record.examined:
                attributes = _attributes(record)
            elif (headers := self._read(record)) is None:
                return feeds
            else:
                attributes = record.attributes = kafka.attributes_of(*headers)
            found = [feed for feed in feeds if filters.get(feed, feed.filter).matches(attributes)]
            if self._failures:
                self._report_failures(record, feeds, found, following=following)
        except Exception as error:
            self._not_examined(record, error)
            return feeds
        return found

    def _report_failures(
        self,
        record: StoredRecord,
        feeds: Collection[SubscriptionFeed],
        found: Collection[SubscriptionFeed],
        *,
        following: bool,
    ) -> None:
        """Report the failures of the feeds for which this record is read, once: it is evaluated
        again when a feed had no room for it or is behind, and by listeners if it is not `examined`.
        """
        failures, self._failures = self._failures, []
        counted: dict[SubscriptionFeed, bool] = {}
        for feed, problem in failures:
            if feed not in counted:
                counted[feed] = (
                    feed in feeds
                    and (record.examined or feed not in found)
                    and feed.counts_failures(record, following=following)
                )
            if counted[feed]:
                feed.filter.on_error(problem)

    def write_header_lines(self, record: StoredRecord) -> None:
        """Write the header lines of a record once for all feeds that take it, which is the one that
        was examined last. One that nobody takes has none.
        """
        if self._headers is not None and self._headers[0] is record:
            try:
                record.header_lines = http.binary_lines(*self._headers[1:])
            except Exception as error:
                self._not_examined(record, error)

    def examined(self) -> None:
        """The caller is done with a batch of records."""
        self._headers = None
        self._guard.clear()

    def _read(self, record: StoredRecord) -> tuple[RecordLayout, tuple[bytes, ...]] | None:
        """Bring a record into binary mode and return its headers; None if it is not an event, or
        stalls the loop: the listeners examine such a record themselves.
        """
        self._headers = None
        guard = self._guard
        if guard.poison and (record.partition, record.offset) in guard.poison:
            return None
        guard.mark(record.partition, record.offset)
        if stall_points_armed():
            _stall(record)
        self._misplaced = False
        try:
            binary, layout, values = kafka.read(record, self._on_misplaced)
        except InvalidEvent:
            return None
        if binary is not record:
            record.headers, record.value = binary.headers, binary.value
        record.examined = not self._misplaced  # The listeners count such a record.
        self._headers = record, layout, values
        return layout, values

    def _on_misplaced(self) -> None:
        self._misplaced = True

    def _not_examined(self, record: StoredRecord, error: Exception) -> None:
        self._headers = None
        self._failures.clear()
        record.examined = False  # The listeners apply the filters themselves, and count failures.
        logger.error(
            "event_not_examined",
            record=record.origin,
            error=repr(error),
            exc_info=error,
            next_step="please report this with the traceback; each subscription examines the event"
            " by itself",
        )


def _attributes(record: StoredRecord) -> Mapping[str, str]:
    if record.attributes is None:
        record.attributes = kafka.attributes(record.headers)
    return record.attributes


def _stall(record: StoredRecord) -> None:
    """For tests only: where an event may stall the loop."""
    for name, value in record.headers:
        if name == "ce_id":
            stall_point("read " + value.decode("utf-8", "replace"))
