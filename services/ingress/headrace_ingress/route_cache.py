"""Finds the addressable of a request by its target and Host.

Senders use few different targets, so the raw bytes are looked up in a cache first. Only a target
that is not in it is decoded and looked up in the routing table. A change of the table clears the
cache.
"""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from headrace.codec.local_request import refusal
from headrace.domain.bounded_cache import ByteBoundedCache
from headrace.domain.event_schemas import InvalidSchema, LoadSchemaCompiler
from headrace.domain.observed_event_types import EventTypeObserver, ObservedEventTypes
from headrace.domain.routing import (
    Addressable,
    EventSchema,
    Format,
    RoutingTable,
    SchemaValidation,
    concerns_ingress,
)
from headrace_ingress.metrics import AddressableMetrics, IngressMetrics, labels_of
from headrace_ingress.schema_checks import CompiledSchemas, SchemaChecks

_CACHE_BYTES_MAX: Final = 1_048_576
"""Total size of the cached targets and Hosts."""
_CACHE_ENTRY_BYTES_MAX: Final = 1_024
"""Target and Host together; names of namespaces, Brokers and services are far shorter."""
HOSTS_SETTING: Final = "HEADRACE_INGRESS_HOSTS"
_DOTS: Final = frozenset({".", ".."})
_SHOWN_CHARACTERS_MAX: Final = 200
_SIMILAR_PATHS_MAX: Final = 200
_PAIRS_MAX: Final = 20_000
"""Limit of the pairs of characters (one of the requested path, one of a served path) that the
search for a similar path compares. A pair takes about 0.1 us at worst: two hundred long paths would
take a quarter of a second.
"""
_SIMILARITY_MIN: Final = 0.75
"""The similarity from which another path is suggested."""


def _no_compiler() -> NoReturn:
    raise InvalidSchema("this process has no validator of schemas")


@dataclass(slots=True)
class RouteEntry:
    """An addressable with its metrics."""

    addressable: Addressable
    metrics: AddressableMetrics
    any_body_bytes_max: int = 0
    """A body of this size is accepted in every content mode."""
    types: EventTypeObserver | None = None
    """Records the types of accepted events; None when the routing record does not ask for it."""
    checks: SchemaChecks | None = None
    """The schemas of the events; None when the routing record does not ask for checks, or there are
    no schemas.
    """
    structured: bool = False
    """Whether events are written in structured mode."""
    plain: bool = True
    """Whether there is none of the three: the only test that an event pays for them then."""
    schemas: tuple[EventSchema, ...] = ()
    """What `checks` was made of."""


class RouteCache:
    """Maps targets and Hosts to addressables."""

    def __init__(
        self,
        table: RoutingTable,
        metrics: IngressMetrics,
        observed_types: ObservedEventTypes | None = None,
        *,
        hosts: Collection[str] = (),
        local: bool = False,
        batch_bytes_max: int,
        load_schema_compiler: LoadSchemaCompiler = _no_compiler,
    ) -> None:
        """`observed_types` records the types of events of addressables that ask for it.

        `local`: the ingress listens on a loopback address, so Host must be a loopback address, one
        of `hosts`, or a host of the routing table.
        """
        self._table = table
        self._local = local
        self._batch_bytes_max = batch_bytes_max
        self.allowed_hosts = _AllowedHosts(table, hosts)
        """Hosts that are allowed on a loopback address."""
        self._observed_types = ObservedEventTypes() if observed_types is None else observed_types
        self._metrics = metrics
        self._by_target: ByteBoundedCache[tuple[bytes, bytes], RouteEntry] = ByteBoundedCache(
            bytes_max=_CACHE_BYTES_MAX, entry_bytes_max=_CACHE_ENTRY_BYTES_MAX
        )
        self._by_uid: dict[str, RouteEntry] = {}
        self._compiled_schemas = CompiledSchemas(load_schema_compiler)
        self._schemas = table.schemas()

    def on_routes_changed(self, keys: Collection[str]) -> None:
        """Clear the cache after a change of the routing table. For `RoutingReader.watch`."""
        if not any(map(concerns_ingress, keys)):
            return
        self._by_target.clear()
        self._schemas = self._table.schemas()
        live = {each.uid: each for each in self._table.addressables()}
        for uid, route in list(self._by_uid.items()):
            now = live.get(uid)
            if now is None:
                del self._by_uid[uid]
                self._metrics.remove(route.addressable)
            else:
                if labels_of(now) != labels_of(route.addressable):
                    # A record of an older version has no kind.
                    self._metrics.remove(route.addressable)
                    route.metrics = self._metrics.for_addressable(now)
                route.addressable = now
                self._update_extras(route)
        in_use = [schema for route in self._by_uid.values() for schema in route.schemas]
        self._compiled_schemas.keep(in_use)
        self._observed_types.keep({uid for uid, each in live.items() if each.event_types})

    def find(self, target: bytes, host: bytes) -> RouteEntry | None:
        """Return the addressable of a request with this target and Host, as sent; None if there is
        none.
        """
        found = self._by_target.get((target, host))
        if found is not None:
            return found
        if (end := target.find(b"?")) >= 0:
            # A query does not change the address, and senders vary it.
            return self.find(target[:end], host)
        path = decode_path(target)
        addressable = None if path is None else self._table.addressable(path, decode_host(host))
        if addressable is None or self.host_rejection(host) is not None:
            return None
        found = self._entry(addressable)
        self._by_target.remember((target, host), found, len(target) + len(host))
        return found

    def host_rejection(self, host: bytes) -> str | None:
        """Return why a request with this Host is refused on a loopback address; None if it is
        allowed.

        A web page whose DNS name was rebound to a loopback address sends the name of its site in
        Host.
        """
        if (
            not self._local
            or (reason := refusal(host.decode("latin-1"), None, None, self.allowed_hosts)) is None
        ):
            return None
        return f"{reason}; {HOSTS_SETTING} allows a name"

    def explain_unknown(self, target: bytes) -> str:
        """Return the detail of a 404: the path that was looked up, and perhaps a similar one.

        Only paths of the namespace in the request are suggested, so that a sender does not learn
        the names of other namespaces.
        """
        path = decode_path(target)
        if path is None:
            return (
                "the path of this request is not well-formed, so it cannot be that of a Broker or"
                " Channel"
            )
        shown = path if len(path) <= _SHOWN_CHARACTERS_MAX else f"{path[:_SHOWN_CHARACTERS_MAX]}…"
        message = f"no Broker or Channel is served at this path: {shown}"
        segments = path.split("/")
        if len(segments) != 3 or not all(segments[1:]):
            return (
                f"{message}; send events to /<namespace>/<name>, as in `status.address.url` of a"
                " Broker or Channel"
            )
        near: list[str] = []
        if len(path) <= _SHOWN_CHARACTERS_MAX:
            paths = self._similar_paths(path, segments[1])
            # That of a Channel has its kind before the name.
            near = [each for each in paths if each.endswith(f"/{segments[2]}")]
            near = near or difflib.get_close_matches(path, paths, 1, _SIMILARITY_MIN)
        return (
            f"{message}; did you mean {near[0]}?"
            if near
            else f"{message}; is it created and Ready?"
        )

    def _similar_paths(self, wrong: str, namespace: str) -> list[str]:
        """Return paths of this namespace, those of a similar length first; their number is limited
        so that a wrong path costs little.
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
            route = RouteEntry(addressable, self._metrics.for_addressable(addressable))
            self._by_uid[addressable.uid] = route
            self._update_extras(route)
        return route

    def _update_extras(self, route: RouteEntry) -> None:
        """Set what follows from the addressable, some of it for a few addressables only."""
        addressable = route.addressable
        route.any_body_bytes_max = min(addressable.event_bytes_max, self._batch_bytes_max)
        checked = addressable.validation is not SchemaValidation.OFF
        schemas = self._schemas.get(addressable.uid, ()) if checked else ()
        if schemas != route.schemas:
            route.schemas = schemas
            route.checks = SchemaChecks(schemas, self._compiled_schemas) if schemas else None
        self._update_type_observer(route)
        route.structured = addressable.format is Format.JSON
        route.plain = route.types is None and route.checks is None and not route.structured

    def _update_type_observer(self, route: RouteEntry) -> None:
        wanted = route.addressable.event_types
        if wanted != (route.types is not None):
            route.types = (
                EventTypeObserver(route.addressable.uid, self._observed_types) if wanted else None
            )


class _AllowedHosts:
    """Host names of the settings and of the routing table."""

    def __init__(self, table: RoutingTable, hosts: Collection[str]) -> None:
        self._table = table
        self._hosts = frozenset(hosts)

    def __contains__(self, name: object) -> bool:
        return name in self._hosts or (isinstance(name, str) and self._table.has_host(name))


def decode_path(target: bytes) -> str | None:
    """Return the path of a request target without query and trailing slash, each segment decoded
    once; None when it cannot be the path of an addressable.

    A segment that decodes to one with a slash, a control character, `.` or `..` is rejected: it
    must not reach another addressable (`/a%2Fb`, `/a/%2e%2e/b`).
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
    """Return the name in a Host field, in lower case, without port and trailing dot."""
    name = host.decode("latin-1").lower()
    if not name.startswith("["):
        name = name.partition(":")[0]
    return name.removesuffix(".")
