"""From a request's target and Host to whom it is addressed.

Senders use the same few targets again and again, so the raw bytes are looked up first; only a
target not seen since the routing table last changed is decoded and asked for there.
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final
from urllib.parse import unquote_to_bytes

from headrace.codec.local_request import refusal
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.observed_event_types import EventTypeObserver, ObservedEventTypes
from headrace.domain.routing import Addressable, RoutingTable, is_addressable_key
from headrace_ingress.metrics import AddressableMetrics, IngressMetrics

_CACHE_BYTES_MAX: Final = 1_048_576
"""Of the requests' targets and Hosts that are looked up without being decoded."""
_CACHE_ENTRY_BYTES_MAX: Final = 1_024
"""Target and Host together; names of namespaces, Brokers and services stay far below it."""
HOSTS_SETTING: Final = "HEADRACE_INGRESS_HOSTS"
_DOTS: Final = frozenset({".", ".."})
_SHOWN_CHARACTERS_MAX: Final = 200
_SIMILAR_PATHS_MAX: Final = 200
_PAIRS_MAX: Final = 20_000
"""Pairs of characters, one of the path asked for and one of a path that is served, that a search
for what was meant may compare. It takes about 0.1 us a pair at worst: two hundred long paths would
cost a quarter of a second.
"""
_SIMILARITY_MIN: Final = 0.75
"""How much of a path must be right for another to be called to mind."""


@dataclass(slots=True)
class RouteEntry:
    """An addressable with its counters."""

    addressable: Addressable
    metrics: AddressableMetrics
    types: EventTypeObserver | None = None
    """Where to remember the types of accepted events, None when nobody wants to know them."""


class RouteCache:
    """Who takes events where."""

    def __init__(
        self,
        table: RoutingTable,
        metrics: IngressMetrics,
        observed_types: ObservedEventTypes | None = None,
        *,
        hosts: Collection[str] = (),
        local: bool = False,
    ) -> None:
        """`observed_types` remembers the types of events, of addressables that ask for it.

        `local`: requests come to a loopback address, so Host must name one, or one of `hosts`, or a
        host of the routing table.
        """
        self._table = table
        self._local = local
        self.allowed_hosts = _AllowedHosts(table, hosts)
        """Names that Host may have on a loopback address."""
        self._observed_types = ObservedEventTypes() if observed_types is None else observed_types
        self._metrics = metrics
        self._by_target: ByteBoundedCache[tuple[bytes, bytes], RouteEntry] = ByteBoundedCache(
            bytes_max=_CACHE_BYTES_MAX, entry_bytes_max=_CACHE_ENTRY_BYTES_MAX
        )
        self._by_uid: dict[str, RouteEntry] = {}

    def on_routes_changed(self, keys: Collection[str]) -> None:
        """The routing table changed: look everything up again. For `RoutingReader.watch`."""
        if not any(map(is_addressable_key, keys)):
            return
        self._by_target.clear()
        live = {each.uid: each for each in self._table.addressables()}
        for uid, route in list(self._by_uid.items()):
            now = live.get(uid)
            if now is None:
                del self._by_uid[uid]
                self._metrics.remove(route.addressable.namespace, route.addressable.name)
            else:
                route.addressable = now
                self._update_type_observer(route)
        self._observed_types.keep({uid for uid, each in live.items() if each.event_types})

    def find(self, target: bytes, host: bytes) -> RouteEntry | None:
        """The address of a request with this target and Host, as sent."""
        if b"?" in target:
            target = target[
                : target.index(b"?")
            ]  # a query does not change the address, and senders vary it
        found = self._by_target.get((target, host))
        if found is not None:
            return found
        path = decode_path(target)
        addressable = None if path is None else self._table.addressable(path, decode_host(host))
        if addressable is None or self.host_rejection(host) is not None:
            return None
        found = self._entry(addressable)
        self._by_target.remember((target, host), found, len(target) + len(host))
        return found

    def host_rejection(self, host: bytes) -> str | None:
        """Why a request with this Host is not taken on a loopback address; None when it is.

        A web page whose DNS name was rebound to a loopback address has the name of its site here.
        """
        if (
            not self._local
            or (reason := refusal(host.decode("latin-1"), None, None, self.allowed_hosts)) is None
        ):
            return None
        return f"{reason}; {HOSTS_SETTING} allows a name"

    def explain_unknown(self, target: bytes) -> str:
        """What to tell the sender of a request whose address nobody has: which path was looked for,
        and which was perhaps meant.

        Only paths of the namespace that the sender named are called to mind: what others call
        theirs is not for everybody.
        """
        path = decode_path(target)
        if path is None:
            return (
                "the path of this request cannot be that of a Broker or Channel: it is not a"
                " well-formed one"
            )
        shown = path if len(path) <= _SHOWN_CHARACTERS_MAX else f"{path[:_SHOWN_CHARACTERS_MAX]}…"
        said = f"no Broker or Channel is served at this path: {shown}"
        segments = path.split("/")
        if len(segments) != 3 or not all(segments[1:]):
            return (
                f"{said}; events go to /<namespace>/<name>, as the `status.address.url` of a Broker"
                " or Channel says"
            )
        near = (
            difflib.get_close_matches(
                path, self._similar_paths(path, segments[1]), 1, _SIMILARITY_MIN
            )
            if len(path) <= _SHOWN_CHARACTERS_MAX
            else []
        )
        return f"{said}; did you mean {near[0]}?" if near else f"{said}; is it created, and Ready?"

    def _similar_paths(self, wrong: str, namespace: str) -> list[str]:
        """Paths that this namespace serves, those of a similar length first; few enough that a
        wrong path costs little.
        """
        own = (each for each in self._table.addressables() if each.namespace == namespace)
        paths = [
            path
            for each in islice(own, _SIMILAR_PATHS_MAX)
            for path in each.paths
            if path.startswith(f"/{namespace}/")
        ]
        paths.sort(key=lambda path: abs(len(path) - len(wrong)))
        pairs = accumulate(len(path) * len(wrong) for path in paths)
        return [path for path, so_far in zip(paths, pairs, strict=True) if so_far <= _PAIRS_MAX]

    def _entry(self, addressable: Addressable) -> RouteEntry:
        route = self._by_uid.get(addressable.uid)
        if route is None:
            route = RouteEntry(
                addressable, self._metrics.for_addressable(addressable.namespace, addressable.name)
            )
            self._by_uid[addressable.uid] = route
            self._update_type_observer(route)
        return route

    def _update_type_observer(self, route: RouteEntry) -> None:
        wanted = route.addressable.event_types
        if wanted != (route.types is not None):
            route.types = (
                EventTypeObserver(route.addressable.uid, self._observed_types) if wanted else None
            )


class _AllowedHosts:
    """Host names allowed by the settings, and those of the routing table."""

    def __init__(self, table: RoutingTable, hosts: Collection[str]) -> None:
        self._table = table
        self._hosts = frozenset(hosts)

    def __contains__(self, name: object) -> bool:
        return name in self._hosts or (isinstance(name, str) and self._table.has_host(name))


def decode_path(target: bytes) -> str | None:
    """The path of a request target, each segment decoded once, without query and a trailing slash;
    None when it cannot be a path of ours.

    A segment that decodes to something with a slash, a control character or dots that walk is
    refused rather than understood: it must not reach a neighbour's address (`/a%2Fb`,
    `/a/%2e%2e/b`).
    """
    path = target.partition(b"?")[0].partition(b"#")[0]
    if path[:1] != b"/":
        scheme, _, rest = path.partition(b"://")
        if scheme.lower() not in (b"http", b"https"):
            return None
        path = b"/" + rest.partition(b"/")[2]
    path = path.removesuffix(b"/")
    segments = []
    for raw in path.split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return None
        if "/" in segment or segment in _DOTS or not (segment.isprintable() or not segment):
            return None
        segments.append(segment)
    return "/".join(segments) or "/"


def decode_host(host: bytes) -> str:
    """The name in a Host field, in lower case, without port and a dot at its end."""
    name = host.decode("latin-1").lower()
    if not name.startswith("["):
        name = name.partition(":")[0]
    return name.removesuffix(".")
