"""Watches: what a client sees of the store's changes, from which version, and when its
watch ends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.resources.resource import Change, Resource, ResourceKind
from headrace_apiserver.requests.selectors import read_selection
from headrace_apiserver.statuses import StatusError
from headrace_apiserver.tables.table import Included, Tabulator
from headrace_apiserver.watch.cacher import CHUNK_BYTES, Cacher, CacheWatcher, WatchRequest
from headrace_apiserver.watch.frames import Framing, MetadataFraming, PlainFraming, TableFraming

THING = ResourceKind(
    group="test.dev", version="v1", kind="Thing", plural="things", singular="thing"
)
OTHER = ResourceKind(
    group="test.dev", version="v1", kind="Other", plural="others", singular="other"
)
SECONDS = 5.0


class Store:
    """As much of a resource store as a cacher needs, with a history that tests write."""

    def __init__(self, **limits: Any) -> None:
        self.version = 10
        self.resources: dict[tuple[str, str, str], Resource] = {}
        self.cacher = Cacher(lambda: str(self.version), **limits)
        self.cacher.start()
        self.kind = THING

    def put(
        self,
        name: str,
        *,
        namespace: str = "ns",
        kind: ResourceKind = THING,
        labels: dict[str, str] | None = None,
        size: int = 0,
    ) -> Change:
        """Create or replace a resource, and deliver the change to the cacher."""
        change = self.put_undelivered(
            name, namespace=namespace, kind=kind, labels=labels, size=size
        )
        self.cacher.feed((change,))
        return change

    def put_undelivered(
        self,
        name: str,
        *,
        namespace: str = "ns",
        kind: ResourceKind = THING,
        labels: dict[str, str] | None = None,
        size: int = 0,
    ) -> Change:
        """Create or replace a resource whose change is delivered to the cacher later."""
        self.version += 1
        metadata = {
            "name": name,
            "namespace": namespace,
            "resourceVersion": str(self.version),
            "labels": labels or {},
        }
        document = {
            "apiVersion": "test.dev/v1",
            "kind": kind.kind,
            "metadata": metadata,
            "spec": {"text": "x" * size},
        }
        new = Resource(kind, document)
        place = (kind.plural, namespace, name)
        before, self.resources[place] = self.resources.get(place), new
        return Change(new.key, str(self.version), before, new)

    def drop(self, name: str, *, namespace: str = "ns") -> None:
        """Remove a resource, and deliver the change to the cacher."""
        self.version += 1
        before = self.resources.pop((THING.plural, namespace, name))
        self.cacher.feed((Change(before.key, str(self.version), before, None),))

    def listed(self) -> Sequence[Resource]:
        """All resources of the watched kind."""
        return [
            each
            for (plural, _, _), each in sorted(self.resources.items())
            if plural == THING.plural
        ]

    def watch(self, framing: Framing | None = None, **options: Any) -> CacheWatcher:
        """Start a watch."""
        return self.cacher.open(
            WatchRequest(kind=THING, **options), framing or PlainFraming(THING), self.listed
        )


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """A store whose cacher stops with the test."""
    there = Store()
    yield there
    there.cacher.stop()


async def lines(watch: CacheWatcher, count: int) -> list[dict[str, Any]]:
    """The next events, at least as many."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            found += map(json.loads, (await anext(watch)).splitlines())
    return found


async def rest(watch: CacheWatcher) -> list[dict[str, Any]]:
    """All events until the watch ends."""
    async with asyncio.timeout(SECONDS):
        return [json.loads(line) async for chunk in watch for line in chunk.splitlines()]


def summaries(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Type, name and version of each event."""
    found = ((event["type"], event["object"]["metadata"]) for event in events)
    return [
        (kind, metadata.get("name", ""), metadata["resourceVersion"]) for kind, metadata in found
    ]


async def test_a_watch_shows_all_changes(store: Store) -> None:
    """Creations, changes and deletions, in order; a deletion shows the last state at the version of
    the deletion.
    """
    watch = store.watch(since="10")
    store.put("a")
    store.put("a")
    store.drop("a")
    assert [("ADDED", "a", "11"), ("MODIFIED", "a", "12"), ("DELETED", "a", "13")] == summaries(
        await lines(watch, 3)
    )


async def test_a_watch_waits_for_changes(store: Store) -> None:
    """A change wakes it."""
    watch = store.watch(since="10")
    waiting = asyncio.ensure_future(lines(watch, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.put("a")
    assert [("ADDED", "a", "11")] == summaries(await waiting)


async def test_a_watch_resumes_from_a_version(store: Store) -> None:
    """What happened after it, and nothing before."""
    for name in "abc":
        store.put(name)
    assert [("ADDED", "b", "12"), ("ADDED", "c", "13")] == summaries(
        await lines(store.watch(since="11"), 2)
    )


@pytest.mark.parametrize("since", [None, "0"])
async def test_a_watch_without_version_starts_with_existing_objects(
    store: Store, since: str | None
) -> None:
    """Then it follows changes."""
    store.put("a")
    store.put("b")
    watch = store.watch(since=since)
    store.put("c")
    assert [("ADDED", "a", "11"), ("ADDED", "b", "12"), ("ADDED", "c", "13")] == summaries(
        await lines(watch, 3)
    )


async def test_initial_events_can_be_omitted_or_ended_by_a_bookmark(store: Store) -> None:
    """sendInitialEvents false starts with the next change; true ends the initial events with a
    marked bookmark.
    """
    store.put("a")
    plain, closed = store.watch(initial=False), store.watch(initial_end=True, bookmarks=True)
    store.put("b")
    assert [("ADDED", "b", "12")] == summaries(await lines(plain, 1))
    events = await lines(closed, 3)
    assert [("ADDED", "a", "11"), ("BOOKMARK", "", "11"), ("ADDED", "b", "12")] == summaries(events)
    assert {"k8s.io/initial-events-end": "true"} == events[1]["object"]["metadata"]["annotations"]


async def test_a_change_that_was_listed_is_not_repeated(store: Store) -> None:
    """A store shows a write in its lists shortly before it delivers it."""
    late = store.put_undelivered("a")
    watch = store.watch()
    store.cacher.feed((late,))
    store.put("b")
    assert [("ADDED", "a", "11"), ("ADDED", "b", "12")] == summaries(await lines(watch, 2))


async def test_a_bookmark_is_not_ahead_of_delivered_changes() -> None:
    """A write that the store has but has not delivered yet is still to come."""
    store = Store(bookmark_seconds=0.0)
    watch = store.watch(since="10", bookmarks=True)
    late = store.put_undelivered("a")
    assert [("BOOKMARK", "", "10")] == summaries(await lines(watch, 1))[:1]
    store.cacher.feed((late,))
    found = [event for event in summaries(await lines(watch, 1)) if event[0] != "BOOKMARK"]
    assert [("ADDED", "a", "11")] == (found or summaries(await lines(watch, 1)))


async def test_a_watch_sees_its_kind_and_namespace(store: Store) -> None:
    """Other kinds and namespaces do not appear."""
    watch, wide = store.watch(since="10", namespace="ns"), store.watch(since="10")
    store.put("a", kind=OTHER)
    store.put("b", namespace="other")
    store.put("c")
    assert [("ADDED", "c", "13")] == summaries(await lines(watch, 1))
    assert [("ADDED", "b", "12"), ("ADDED", "c", "13")] == summaries(await lines(wide, 2))


async def test_an_object_that_no_longer_matches_is_deleted(store: Store) -> None:
    """And one that starts to match is ADDED, whatever happened to it before."""
    watch = store.watch(since="10", selection=read_selection(THING, "app=web", None))
    store.put("a", labels={"app": "api"})
    store.put("a", labels={"app": "web"})
    store.put("a", labels={"app": "web", "more": "x"})
    store.put("a", labels={"app": "api"})
    store.put("a", labels={"app": "web"})
    store.drop("a")
    events = await lines(watch, 5)
    assert [
        ("ADDED", "12"),
        ("MODIFIED", "13"),
        ("DELETED", "14"),
        ("ADDED", "15"),
        ("DELETED", "16"),
    ] == [(kind, version) for kind, _, version in summaries(events)]
    assert {"app": "web", "more": "x"} == events[2]["object"]["metadata"]["labels"]


async def test_initial_events_are_selected_too(store: Store) -> None:
    """Namespace and selectors apply to it."""
    store.put("a", labels={"app": "web"})
    store.put("b")
    store.put("c", namespace="other", labels={"app": "web"})
    watch = store.watch(
        namespace="ns", selection=read_selection(THING, "app=web", None), seconds=0.0
    )
    assert [("ADDED", "a", "11")] == summaries(await lines(watch, 1))


@pytest.mark.parametrize("since", ["9", "5", "99", "x", "-1", "1" * 30])
async def test_a_version_that_is_not_cached_is_answered_410(store: Store, since: str) -> None:
    """Too old, too new or not a version: one ERROR event with a Status 410 Expired, then
    the end.
    """
    (event,) = await rest(store.watch(since=since))
    assert ("ERROR", 410, "Expired") == (
        event["type"],
        event["object"]["code"],
        event["object"]["reason"],
    )


async def test_a_client_that_falls_behind_the_cache_gets_410() -> None:
    """It delays no other watch, and does not miss changes silently."""
    store = Store(changes_max=3)
    slow, idle = store.watch(since="10"), store.watch(since="10")
    waiting = asyncio.ensure_future(lines(idle, 4))
    await asyncio.sleep(0)
    for name in "abcd":
        store.put(name)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    (event,) = await rest(slow)
    assert ("ERROR", "too old resource version: 10 (11)") == (
        event["type"],
        event["object"]["message"],
    )
    assert 4 == len(await waiting)


async def test_a_quiet_watch_does_not_fall_behind_a_busy_namespace() -> None:
    """Changes that do not concern a waiting watch do not end it."""
    store = Store(changes_max=3)
    watch = store.watch(since="10", namespace="quiet")
    waiting = asyncio.ensure_future(lines(watch, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in range(20):
        store.put(f"a{number}", namespace="busy")
    store.put("b", namespace="quiet")
    assert [("ADDED", "b", "31")] == summaries(await waiting)


async def test_a_quiet_kind_can_be_resumed_while_a_busy_one_cannot() -> None:
    """Eviction of one kind's changes does not affect another kind."""
    store = Store(changes_max=3)
    for number in range(20):
        store.put(f"a{number}", kind=OTHER)
    assert (True, False) == (store.cacher.covers(THING, "10"), store.cacher.covers(OTHER, "10"))
    watch = store.watch(since="10")
    store.put("b")
    assert [("ADDED", "b", "31")] == summaries(await lines(watch, 1))


async def test_the_cache_is_bounded_in_bytes() -> None:
    """Large objects evict old ones sooner; the newest is always cached."""
    store = Store(bytes_max=10_000)
    for name in "abcdef":
        store.put(name, size=4_000)
    assert not store.cacher.covers(THING, "10")
    store.put("g", size=100_000)
    assert store.cacher.covers(THING, "16")
    assert [("ADDED", "g", "17")] == summaries(await lines(store.watch(since="16"), 1))


async def test_bookmarks_are_sent_when_nothing_happens() -> None:
    """At the version that the client has seen, so that it can resume from there."""
    store = Store(bookmark_seconds=0.01)
    watch = store.watch(since="10", bookmarks=True)
    store.put("a", kind=OTHER)
    assert [("BOOKMARK", "", "11")] == summaries(await lines(watch, 1))[:1]


async def test_a_watch_ends_at_its_timeout(store: Store) -> None:
    """With a last bookmark, if it asked for bookmarks."""
    store.put("a", kind=OTHER)
    assert [("BOOKMARK", "", "11")] == summaries(
        await rest(store.watch(since="10", bookmarks=True, seconds=0.01))
    )
    assert [] == await rest(store.watch(since="10", seconds=0.01))


async def test_watches_end_with_the_server(store: Store) -> None:
    """A client that sees the end resumes elsewhere; a new watch is refused for now."""
    watch = store.watch(since="10")
    waiting = asyncio.ensure_future(rest(watch))
    await asyncio.sleep(0)
    store.cacher.stop()
    assert [] == await waiting
    with pytest.raises(StatusError) as caught:
        store.watch(since="10")
    assert (503, 0) == (caught.value.code, store.cacher.watching)


async def test_the_number_of_watches_is_bounded() -> None:
    """The response to one more says when to try again; one that ended makes room."""
    store = Store(watches_max=2)
    first, _second = store.watch(since="10"), store.watch(since="10")
    with pytest.raises(StatusError) as caught:
        store.watch(since="10")
    assert (429, 1) == (caught.value.code, caught.value.retry_after_seconds)
    first.close()
    store.watch(since="10").close()
    assert 1 == store.cacher.watching


async def test_a_cancelled_client_leaves_nothing_behind(store: Store) -> None:
    """A cancelled wait is not woken."""
    watch = store.watch(since="10")
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    watch.close()
    store.put("a")
    assert 0 == store.cacher.watching


async def test_many_initial_events_are_sent_in_chunks(store: Store) -> None:
    """No chunk is much larger than the limit, and other tasks run in between."""
    for number in range(40):
        store.put(f"a{number:02d}", size=10_000)
    pieces, turns = [], 0
    watch = store.watch(seconds=0.0)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    async with asyncio.timeout(SECONDS):
        pieces = [chunk async for chunk in watch]
    counting.cancel()
    assert max(map(len, pieces)) < 2 * CHUNK_BYTES
    assert 40 == sum(piece.count(b"\n") for piece in pieces)
    assert turns >= len(pieces)


class Counting(PlainFraming):
    """Counts how often an event is encoded."""

    def __init__(self) -> None:
        super().__init__(THING)
        self.made = 0

    def frame(self, *arguments: Any, **named: Any) -> bytes:
        """Count and encode."""
        self.made += 1
        return super().frame(*arguments, **named)


async def test_a_change_is_encoded_once_for_many_watches(store: Store) -> None:
    """However many they are."""
    framing = Counting()
    watches = [store.watch(framing, since="10") for _ in range(100)]
    store.put("a")
    for watch in watches:
        assert [("ADDED", "a", "11")] == summaries(await lines(watch, 1))
    assert 1 == framing.made


def now() -> datetime:
    """A moment."""
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_a_watch_of_tables_sends_the_columns_once(store: Store) -> None:
    """In its first event, whichever that is; bookmarks have their metadata in a row without
    cells.
    """
    framing = TableFraming(THING, Tabulator(THING), included=Included.NONE, now=now)
    watch = store.watch(framing, since="10", bookmarks=True, seconds=0.05)
    store.put("a")
    store.put("a")
    first, second, mark = await rest(watch)
    assert ["Name", "Age"] == [column["name"] for column in first["object"]["columnDefinitions"]]
    assert ("11", None, "12") == (
        first["object"]["metadata"]["resourceVersion"],
        second["object"]["columnDefinitions"],
        mark["object"]["metadata"]["resourceVersion"],
    )
    assert [["a", "<unknown>"], ["", None]] == [
        event["object"]["rows"][0]["cells"] for event in (second, mark)
    ]
    assert {"resourceVersion": "12"} == mark["object"]["rows"][0]["object"]["metadata"]


async def test_a_watch_of_metadata_shows_only_metadata(store: Store) -> None:
    """Objects and bookmarks are PartialObjectMetadata."""
    watch = store.watch(MetadataFraming(THING), since="10", bookmarks=True, seconds=0.05)
    store.put("a")
    events = await rest(watch)
    assert ["PartialObjectMetadata"] * 2 == [event["object"]["kind"] for event in events]
    assert "spec" not in events[0]["object"]


async def test_a_watch_shows_the_version_of_the_request(store: Store) -> None:
    """Events are converted; bookmarks have the version of the request."""
    newer = ResourceKind(
        group="test.dev", version="v2", kind="Thing", plural="things", singular="thing"
    )
    framing = PlainFraming(newer, lambda document: {**document, "apiVersion": "test.dev/v2"})
    watch = store.cacher.open(
        WatchRequest(kind=newer, since="10", bookmarks=True, seconds=0.05), framing, store.listed
    )
    store.put("a")
    assert ["test.dev/v2", "test.dev/v2"] == [
        event["object"]["apiVersion"] for event in await rest(watch)
    ]


async def test_a_repeated_change_is_ignored(store: Store) -> None:
    """A standby that continues to read after its own writes may read them a second time."""
    watch = store.watch(since="10")
    change = store.put("a")
    store.cacher.feed((change,))
    store.put("b")
    assert [("ADDED", "a", "11"), ("ADDED", "b", "12")] == summaries(await lines(watch, 2))
