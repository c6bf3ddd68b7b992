"""The watch window's bound in bytes: what counts is what is held."""

import gc
import weakref
from collections.abc import Mapping
from typing import Any

from headrace.resources.resource import Change, Resource, ResourceKind
from headrace_apiserver.watch.watch_cache import WatchCache, estimated_bytes

THING = ResourceKind(
    group="test.dev", version="v1", kind="Thing", plural="things", singular="thing"
)


class Document(dict[str, Any]):
    """An object that tells when it is no longer held."""

    __slots__ = ("__weakref__",)


def thing(name: str, size: int = 10_000) -> Resource:
    """An object of some size."""
    return Resource(
        THING, Document(metadata={"name": name, "namespace": "ns"}, spec={"text": "x" * size})
    )


def change(version: int, before: Resource | None, after: Resource | None) -> Change:
    """From one to the other."""
    there = after or before
    assert there is not None
    return Change(there.key, str(version), before, after)


def _distinct(cache: WatchCache, *kept: Mapping[str, Any]) -> bool:
    return cache.held_bytes == sum(map(estimated_bytes, kept))


def test_objects_that_are_gone_count() -> None:
    """A deletion holds the object that went, and the window nothing but what its bound allows."""
    things = [thing(str(number)) for number in range(100)]
    one = estimated_bytes(things[0].object)
    cache = WatchCache(bytes_max=10 * one)
    for number, each in enumerate(things, 1):
        cache.put(change(number, None, each))
    for number, each in enumerate(things, 101):
        cache.put(change(number, each, None))
    assert len(cache) <= 10
    assert 8 * one < cache.held_bytes <= 10 * one


def test_what_was_replaced_counts_when_nobody_else_holds_it() -> None:
    """A large object made small: its step holds both. Where one step's result is the next one's
    beginning, it counts once.
    """
    large, small, smaller = thing("a"), thing("a", 100), thing("a", 10)
    cache = WatchCache()
    cache.put(change(1, large, small))
    assert _distinct(cache, large.object, small.object)
    cache.put(change(2, small, smaller))
    assert _distinct(cache, large.object, small.object, smaller.object)
    cache.put(change(3, smaller, None))
    assert _distinct(cache, large.object, small.object, smaller.object)


def test_what_is_given_up_is_let_go() -> None:
    """Nothing keeps a document whose changes are out of the window, and the count ends where it
    began.
    """
    cache = WatchCache(changes_max=1)
    large, small = thing("a"), thing("a", 10)
    gone = weakref.ref(large.object)
    cache.put(change(1, None, large))
    cache.put(change(2, large, small))
    assert _distinct(cache, large.object, small.object)
    cache.put(change(3, small, None))
    assert _distinct(cache, small.object)
    del large
    gc.collect()
    assert gone() is None
