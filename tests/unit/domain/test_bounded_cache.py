"""Caches whose keys external senders choose are limited in bytes, regardless of the input."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator

from headrace.adapters.http import server_head
from headrace.adapters.http.server import ServerLimits
from headrace.codec import http_binary
from headrace.codec.record_layout import RecordLayouts, record_layouts
from headrace.domain import observed_event_types
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.observed_event_types import EventTypeObserver, ObservedEventTypes
from headrace.domain.routing import Addressable, RoutingTable
from headrace.runtime.metrics import Metrics
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.route_cache import RouteCache

MEBIBYTE = 1_048_576


def grown(work: Callable[[], object]) -> int:
    """Return the bytes that are still allocated after `work`."""
    gc.collect()
    tracemalloc.start()
    try:
        kept = work()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        del kept
        return held
    finally:
        tracemalloc.stop()


def route_cache() -> RouteCache:
    """Return the routes of one broker, `shop/orders`, which also has a Host."""
    table = RoutingTable()
    route = Addressable(
        uid="1",
        generation=1,
        epoch=1,
        namespace="shop",
        name="orders",
        topic="t",
        paths=("/shop/orders",),
        hosts=("orders.example",),
    )
    table.apply("addressable/1", route)
    return RouteCache(table, IngressMetrics(Metrics(process=False)), batch_bytes_max=1_048_576)


def test_long_targets_and_hosts_are_not_remembered() -> None:
    """6,000 targets of 8 kB: 47 MiB before there was a limit in bytes."""

    def work() -> RouteCache:
        known = route_cache()
        for number in range(3_000):
            assert known.find(b"/shop/orders?%07d" % number + b"x" * 8_000, b"a") is not None
            assert known.find(b"/%07d" % number + b"x" * 8_000, b"orders.example") is not None
        return known

    assert 2 * MEBIBYTE > grown(work)


def test_short_targets_and_hosts_are_remembered_up_to_a_bound() -> None:
    """Many short targets, each below the limit for one entry."""

    def work() -> RouteCache:
        known = route_cache()
        for number in range(8_000):
            assert known.find(b"/shop/orders", b"h%07d" % number) is not None
            assert known.find(b"/%07d" % number + b"x" * 900, b"orders.example") is not None
        return known

    assert 2 * MEBIBYTE > grown(work)


def test_a_query_takes_no_place_of_its_own() -> None:
    """The same path with different queries is one entry."""
    known = route_cache()
    for number in range(100):
        known.find(b"/shop/orders?%d" % number, b"a")
    assert 1 == len(known._by_target)


def names(count: int, length: int) -> Iterator[tuple[str, ...]]:
    """Return sequences of header names, all different."""
    for number in range(count):
        yield (
            "ce_specversion",
            "ce_id",
            "ce_source",
            "ce_type",
            *(f"ce_x{number}x{each}".ljust(length, "y") for each in range(100)),
        )


def test_layouts_of_requests_are_bounded() -> None:
    """700 different sequences of 100 names: 20 MiB before there was a limit."""

    def work() -> object:
        layouts = http_binary.Layouts(bytes_max=2 * MEBIBYTE, entry_bytes_max=65_536)
        for each in names(700, 19):
            _ = layouts[tuple(name.replace("ce_", "ce-").encode() for name in each)]
        return layouts

    assert 3 * MEBIBYTE > grown(work)
    assert http_binary._LAYOUTS_BYTES_MAX == http_binary.layouts._bytes_max


def test_layouts_of_records_are_bounded() -> None:
    """The same limit applies to records that are written."""

    def work() -> object:
        layouts = RecordLayouts(bytes_max=2 * MEBIBYTE, entry_bytes_max=65_536)
        for each in names(700, 19):
            _ = layouts[each]
        return layouts

    assert 3 * MEBIBYTE > grown(work)
    assert 2 * MEBIBYTE > record_layouts._bytes_max


def test_shapes_of_heads_and_hosts_are_bounded() -> None:
    """Field names and Hosts that never repeat."""

    def work() -> None:
        for number in range(1_500):
            names = (b"host", *(b"x%d-%d" % (number, each) for each in range(100)))
            values = (b"h%d" % number + b"x" * 200, *(b"",) * 100)
            server_head.read_framing(names, values, ServerLimits())

    server_head._shapes.clear()
    server_head._hosts.clear()
    try:
        assert 3 * MEBIBYTE > grown(work)
    finally:
        server_head._shapes.clear()
        server_head._hosts.clear()


def test_values_found_good_are_bounded() -> None:
    """The cache of valid values of each attribute is limited."""

    def work() -> object:
        valid, examine = http_binary._check("ce_source", lambda text: None)
        for number in range(10_000):
            examine(b"%07d" % number + b"x" * 240)
        return valid

    assert MEBIBYTE // 2 > grown(work)


def types(seen: ObservedEventTypes, uid: str, count: int, length: int, letter: str = "x") -> None:
    """Note `count` event types of `length` letters at one place."""
    here = EventTypeObserver(uid, seen)
    for number in range(count):
        text = f"{number:07d}".ljust(length, letter).encode()
        here.note([("ce_type", text), ("ce_source", text), ("ce_dataschema", text)])


def test_types_of_events_are_bounded_per_place_and_per_process() -> None:
    """Types as long as an EventType accepts, and longer: 62 MiB for one Broker before there was a
    limit in bytes.
    """

    def work() -> ObservedEventTypes:
        seen = ObservedEventTypes()
        for place in range(20):
            types(seen, str(place), 1_000, 2_000, "\N{SNOWMAN}")
            types(seen, str(place), 200, 30_000)
        return seen

    assert 6 * MEBIBYTE > grown(work)
    seen = ObservedEventTypes()
    types(seen, "1", 3_000, 2_000)
    assert (
        observed_event_types.SCOPE_BYTES_MAX
        >= seen.bytes
        > observed_event_types.SCOPE_BYTES_MAX // 2
    )


def test_a_flood_of_long_types_leaves_a_neighbour_its_own() -> None:
    """The place with the flood loses its oldest types, the other one keeps all of its types."""
    seen = ObservedEventTypes()
    types(seen, "quiet", 5, 20)
    for place in range(10):
        types(seen, f"loud {place}", 500, 2_000)
    assert 5 == len(seen._seen["quiet"])
    assert observed_event_types.BYTES_MAX >= seen.bytes


def test_what_is_counted_is_what_is_there() -> None:
    """The byte and entry counts return to zero when the places are removed."""
    seen = ObservedEventTypes()
    types(seen, "1", 3_000, 500)
    types(seen, "2", 10, 10)
    seen.keep({"2"})
    assert 10 == len(seen)
    seen.keep(())
    assert (0, 0) == (len(seen), seen.bytes)


def test_an_entry_over_its_bound_is_left_out_and_a_full_table_begins_again() -> None:
    """The two limits of the dictionary."""
    known: ByteBoundedCache[str, int] = ByteBoundedCache(bytes_max=1_000, entry_bytes_max=100)
    known.remember("large", 1, 101)
    assert "large" not in known
    for number in range(10):
        known.remember(str(number), number, 100)
        known.remember(str(number), number, 100)
    assert ["8", "9"] == list(known)[-2:]
    assert 1_000 >= known.bytes == 356 * len(known)
