"""The event types that a process remembers: limited in number, once each, and reported in
batches.
"""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headrace.domain.observed_event_types import (
    BATCH_CHARACTERS_MAX,
    BATCH_MAX,
    TEXT_MAX,
    EventTypeObserver,
    ObservedEventType,
    ObservedEventTypes,
)


def headers(
    type_: bytes, source: bytes = b"/s", schema: bytes | None = None
) -> list[tuple[str, bytes]]:
    """Return the headers of a record."""
    found = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", source),
        ("ce_type", type_),
        ("content-type", b"text/plain"),
    ]
    return [*found, ("ce_dataschema", schema)] if schema is not None else found


def test_a_type_is_remembered_once_with_its_first_schema() -> None:
    """The key is place, type and source; another schema is not another type."""
    seen = ObservedEventTypes()
    here, there = EventTypeObserver("a", seen), EventTypeObserver("b", seen)
    here.note(headers(b"t", schema=b"http://one/"))
    here.note(headers(b"t", schema=b"http://two/"))
    here.note(headers(b"t", b"/other"))
    there.note(headers(b"t"))
    expected = (
        ObservedEventType("a", "t", "/s", "http://one/", "1.0"),
        ObservedEventType("a", "t", "/other", "", "1.0"),
        ObservedEventType("b", "t", "/s", "", "1.0"),
    )
    assert expected == seen.next_batch() == seen.next_batch()


def test_what_an_event_type_could_not_hold_is_not_remembered() -> None:
    """A type or source that is empty or too long is ignored; a schema that is too long is
    left out.
    """
    seen = ObservedEventTypes()
    here = EventTypeObserver("a", seen)
    here.note(headers(b"t" * (TEXT_MAX + 1)))
    here.note(headers(b"t", b"s" * (TEXT_MAX + 1)))
    here.note(headers(b""))
    here.note([("content-type", b"text/plain")])
    here.note(headers(b"t", schema=b"s" * (TEXT_MAX + 1)))
    assert (ObservedEventType("a", "t", "/s"),) == seen.next_batch()


def test_there_is_a_bound() -> None:
    """A sender that varies types without end fills the memory up to the limit. The newest types are
    kept.
    """
    seen = ObservedEventTypes(maximum=10)
    here = EventTypeObserver("a", seen)
    for number in range(5_000):
        here.note(headers(b"t%d" % number))
    assert 10 == len(seen)
    assert [f"t{number}" for number in range(4_990, 5_000)] == [
        each.type for each in seen.next_batch()
    ]


def test_a_flood_at_one_place_leaves_the_others_theirs() -> None:
    """Types seen earlier at the other places stay, and later ones are still accepted."""
    seen = ObservedEventTypes(maximum=30)
    early, flooded, late = (
        EventTypeObserver("early", seen),
        EventTypeObserver("flooded", seen),
        EventTypeObserver("late", seen),
    )
    for number in range(10):
        early.note(headers(b"e%d" % number))
    for number in range(5_000):
        flooded.note(headers(b"f%d" % number))
    for number in range(10):
        late.note(headers(b"l%d" % number))
    for number in range(5_000, 6_000):
        flooded.note(headers(b"f%d" % number))
    assert {"early": 10, "flooded": 10, "late": 10} == Counter(
        each.uid for each in seen.next_batch()
    )
    assert 30 == len(seen)


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), max_size=200),
)
def test_nobody_loses_a_part_that_is_no_larger_than_others(
    maximum: int, noted: list[tuple[str, int]]
) -> None:
    """In any order, the limit holds, the newest type is kept, and no place loses types below its
    share.
    """
    seen = ObservedEventTypes(maximum=maximum)
    for uid, number in noted:
        before = Counter(each.uid for each in seen.next_batch())
        seen.note(uid, {"ce_type": b"%d" % number, "ce_source": b"s"})
        after = Counter(each.uid for each in seen.next_batch())
        assert len(seen) == after.total() <= maximum
        assert any((uid, str(number)) == (each.uid, each.type) for each in seen.next_batch())
        part = maximum // len(before | after)
        assert all(after[other] >= min(count, part) for other, count in before.items())


def test_what_was_seen_elsewhere_is_forgotten_with_its_place() -> None:
    """A Broker was deleted, or no longer asks for reports."""
    seen = ObservedEventTypes()
    EventTypeObserver("a", seen).note(headers(b"t"))
    EventTypeObserver("b", seen).note(headers(b"t"))
    seen.keep({"b"})
    assert ["b"] == [each.uid for each in seen.next_batch()]


@given(st.integers(0, 400), st.integers(1, TEXT_MAX))
def test_everything_is_reported_in_pieces_within_bounds(count: int, length: int) -> None:
    """Every type is reported eventually, for all sizes, and no batch exceeds the limits of a
    report.
    """
    seen = ObservedEventTypes()
    for number in range(count):
        seen.note("u", {"ce_type": b"%d" % number, "ce_source": b"s" * length})
    reported: set[str] = set()
    for _ in range(count + 2):
        piece = seen.next_batch()
        assert len(piece) <= BATCH_MAX
        assert (
            len(piece) == 1
            or sum(len(text) for each in piece for text in each) <= BATCH_CHARACTERS_MAX
        )
        reported |= {each.type for each in piece}
        if len(reported) == count:
            break
    assert count == len(reported)
