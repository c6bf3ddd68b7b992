"""The bound of the watch cache in bytes: documents that are held are counted."""

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
    """An object whose release can be observed."""

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


def test_deleted_objects_count() -> None:
    """A deletion holds the deleted object, and the cache holds only what its bound allows."""
    things = [thing(str(number)) for number in range(100)]
    one = estimated_bytes(things[0].object)
    cache = WatchCache(bytes_max=10 * one)
    for number, each in enumerate(things, 1):
        cache.put(change(number, None, each))
    for number, each in enumerate(things, 101):
        cache.put(change(number, each, None))
    assert len(cache) <= 10
    assert 8 * one < cache.held_bytes <= 10 * one


def test_replaced_documents_count_once() -> None:
    """If a large object is made small, its change holds both. A document that is the result of one
    change and the start of the next counts once.
    """
    large, small, smaller = thing("a"), thing("a", 100), thing("a", 10)
    cache = WatchCache()
    cache.put(change(1, large, small))
    assert _distinct(cache, large.object, small.object)
    cache.put(change(2, small, smaller))
    assert _distinct(cache, large.object, small.object, smaller.object)
    cache.put(change(3, smaller, None))
    assert _distinct(cache, large.object, small.object, smaller.object)


def test_evicted_documents_are_released() -> None:
    """Nothing keeps a document whose changes were evicted, and the count returns to its initial
    value.
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
