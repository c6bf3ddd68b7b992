"""Handles requests: finds the addressable, reads the event, appends it to the log, and answers 202
when it is stored.

An event is handled in a single call chain without tasks, futures or awaits: `handle` appends,
`_stored` answers. Only requests for an unknown address wait (`unknown_addresses`).
"""

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from headrace.adapters.http.server import Exchange, PreparedResponse
from headrace.adapters.http.server_local_guard import is_local_bind, names_of
from headrace.codec.http import read_fields
from headrace.codec.kafka import structured
from headrace.domain.errors import HeadraceError
from headrace.domain.event import BatchTooLarge, InvalidEvent, UnsupportedContent
from headrace.domain.event_schemas import LoadSchemaCompiler
from headrace.domain.observed_event_types import EventTypeObserver, ObservedEventTypes
from headrace.domain.ports import Log, OnStored, RoutingReader
from headrace.domain.record import Record
from headrace.domain.routing import SchemaValidation, concerns_ingress
from headrace.domain.schema_faults import SchemaFaults
from headrace_ingress.batch import Batch
from headrace_ingress.error_responses import ErrorResponses
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.problems import METHODS, ProblemType
from headrace_ingress.route_cache import RouteCache, RouteEntry
from headrace_ingress.settings import IngressSettings
from headrace_ingress.unknown_addresses import UnknownAddresses

_ACCEPTED: Final = PreparedResponse(202)
_OPTIONS: Final = PreparedResponse(
    200, ((b"allow", METHODS), (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*"))
)
"""Allows any sender at any rate (CloudEvents Web Hooks, section 4.2)."""


class EventReceiver:
    """The handler of the ingress's HTTP server."""

    def __init__(
        self,
        settings: IngressSettings,
        *,
        log: Log,
        routes: RoutingReader,
        metrics: IngressMetrics,
        not_ready: Callable[[], str | None],
        load_schema_compiler: LoadSchemaCompiler,
    ) -> None:
        self.in_flight = 0
        """Requests whose events are being stored."""
        self._settings = settings
        self._batch_events_max = settings.batch_events_max
        self._log = log
        self._not_ready = not_ready
        self.observed_types = ObservedEventTypes()
        """Types of events accepted here, of addressables whose routing record asks for them."""
        self.schema_faults = SchemaFaults()
        """Accepted events that do not conform to a schema, of addressables that only warn."""
        self.route_cache = RouteCache(
            routes.table,
            metrics,
            self.observed_types,
            hosts=names_of(settings.hosts),
            local=is_local_bind(settings.host),
            batch_bytes_max=settings.batch_bytes_max,
            load_schema_compiler=load_schema_compiler,
        )
        self._error_responses = ErrorResponses(
            metrics, retry_after_seconds=settings.retry_after_seconds
        )
        self.refused = self._error_responses.from_server
        """Called by the HTTP server: formats an error response that the server sends itself."""
        self._unknown_addresses = UnknownAddresses(
            routes,
            self.route_cache,
            self._error_responses,
            receive=self.handle,
            timeout_seconds=settings.route_seconds,
        )
        self._arrival = b""
        """The arrival time as text."""
        self._arrival_since = self._arrival_until = 0.0
        """For which times it holds, in Unix seconds: less than a millisecond."""
        self._arrival_prefix, self._arrival_second = b"", -1
        """Its date and time without the fraction of the second, and that second."""
        self._routes = routes
        routes.watch(self.route_cache.on_routes_changed)
        routes.watch(self._forget_schema_faults)

    # Called by the HTTP server.

    def admit(self, exchange: Exchange) -> None:
        """Decide from the headers alone whether to read the body."""
        head = exchange.head
        if head.method != b"POST":
            self._handle_other_method(exchange)
            return
        route = self.route_cache.find(head.target, head.host)
        if route is None:
            exchange.body_bytes_max = self._settings.batch_bytes_max
            if (reason := self._not_ready()) is not None:
                self._error_responses.reject(exchange, None, ProblemType.NOT_READY, 503, reason)
            return
        exchange.context = route
        length = exchange.length
        if not 0 <= length <= route.any_body_bytes_max:
            limit = exchange.body_bytes_max = _body_bytes_max(
                exchange.headers, route.addressable.event_bytes_max, self._settings.batch_bytes_max
            )
            if length > limit:
                self._error_responses.too_large(exchange, route, limit)

    def handle(self, exchange: Exchange) -> None:
        """Handle a complete request."""
        route: RouteEntry | None = exchange.context
        if route is None:
            self._unknown_addresses.wait(exchange)
            return
        started = time.monotonic()
        try:
            records = read_fields(
                exchange.head.names,
                exchange.values,
                exchange.body,
                self._arrival_time(),
                self._batch_events_max,
            )
        except (InvalidEvent, BatchTooLarge, UnsupportedContent) as error:
            self._error_responses.invalid(exchange, route, error)
            return
        if len(records) != 1:
            self._receive_batch(exchange, route, records, started)
            return
        record = records[0]
        addressable = route.addressable
        limit = addressable.event_bytes_max
        if record.size > limit:
            self._error_responses.too_large(exchange, route, limit)
            return
        stored = partial(self._stored, exchange, route, started)
        if not route.plain:
            if route.checks is not None and not self._conforms(exchange, route, record):
                return
            if route.types is not None:
                stored = partial(self._stored_and_observed, record, route.types, stored)
            if route.structured:
                record = structured(record)
                if record.size > limit:
                    self._error_responses.too_large(exchange, route, limit)
                    return
        try:
            self._log.append(addressable.topic, record, stored)
        except HeadraceError as error:
            self._error_responses.not_stored(exchange, route, error)
            return
        self.in_flight += 1

    def close(self) -> None:
        """Stop answering requests for unknown addresses."""
        self._unknown_addresses.close()

    def _handle_other_method(self, exchange: Exchange) -> None:
        if (reason := self.route_cache.host_rejection(exchange.host)) is not None:
            self._error_responses.reject(exchange, None, ProblemType.FORBIDDEN, 403, reason)
        elif exchange.method == b"OPTIONS":
            exchange.send(_OPTIONS)
        else:
            self._error_responses.reject(
                exchange,
                None,
                ProblemType.METHOD_NOT_ALLOWED,
                405,
                "send events with POST; OPTIONS shows what is allowed",
            )

    def _forget_schema_faults(self, keys: Collection[str]) -> None:
        if any(map(concerns_ingress, keys)):
            self.schema_faults.keep(
                {
                    each.uid
                    for each in self._routes.table.addressables()
                    if each.validation is SchemaValidation.WARN
                }
            )

    # Single events.

    def _stored(
        self,
        exchange: Exchange,
        route: RouteEntry,
        started: float,
        error: HeadraceError | None,
    ) -> None:
        self.in_flight -= 1
        if error is not None:
            self._error_responses.not_stored(exchange, route, error)
            return
        exchange.send(_ACCEPTED)
        size = len(exchange.body)
        metrics = route.metrics
        metrics.accepted.value += 1
        metrics.bytes.value += size
        metrics.sizes.observe(size)
        metrics.stored_seconds.observe(time.monotonic() - started)

    def _stored_and_observed(
        self,
        record: Record,
        types: EventTypeObserver,
        stored: OnStored,
        error: HeadraceError | None,
    ) -> None:
        if error is None:
            types.note(record.headers)
        stored(error)

    def _conforms(
        self, exchange: Exchange, route: RouteEntry, record: Record, index: int | None = None
    ) -> bool:
        """Return whether an event may be stored as far as its schema is concerned; if not, the
        request was answered. `index` is its position in a batch.
        """
        failure = route.checks.failure_of(record) if route.checks is not None else None
        if failure is None:
            return True
        if route.addressable.validation is SchemaValidation.ENFORCE:
            self._error_responses.nonconforming(exchange, route, failure, index)
            return False
        route.metrics.nonconforming.value += 1
        self.schema_faults.note(route.addressable.uid, str(failure), time.monotonic())
        return True

    def _arrival_time(self) -> bytes:
        """Return `knativearrivaltime` for now; it is formatted once per millisecond, and date and
        time once per second.
        """
        now = time.time()
        if not self._arrival_since <= now < self._arrival_until:
            milliseconds = int(now * 1000)
            second, fraction = divmod(milliseconds, 1000)
            if second != self._arrival_second:
                self._arrival_second = second
                prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
                self._arrival_prefix = prefix.encode()
            self._arrival_since, self._arrival_until = now, (milliseconds + 1) / 1000
            self._arrival = b"%b%03dZ" % (self._arrival_prefix, fraction)
        return self._arrival

    # Batches.

    def _receive_batch(
        self, exchange: Exchange, route: RouteEntry, records: list[Record], started: float
    ) -> None:
        limit = route.addressable.event_bytes_max
        for index, record in enumerate(records):
            if record.size > limit:
                self._error_responses.too_large(exchange, route, limit, index=index)
                return
        if not records:
            exchange.send(_ACCEPTED)
            return
        if route.checks is not None:
            for index, record in enumerate(records):
                if not self._conforms(exchange, route, record, index):
                    return
        written = records
        if route.structured:
            written = [structured(each) for each in records]
            for index, record in enumerate(written):
                if record.size > limit:
                    self._error_responses.too_large(exchange, route, limit, index=index)
                    return
        size = self._settings.batch_stored_bytes(written)
        size_max = self._settings.batch_stored_bytes_max
        # Checked before the first append: the stored part of a batch that does not fit would be
        # stored again with each retry.
        if size > size_max:
            detail = (
                f"the {len(records)} events of the batch take {size} bytes when stored, each with a"
                f" copy of the headers that are passed on; {size_max} is the limit here; send fewer"
                " events in one batch"
            )
            self._error_responses.reject(
                exchange, route, ProblemType.TOO_LARGE, 413, detail, limit=size_max
            )
            return
        batch = Batch(exchange, route, started, records, on_finished=self._finish_batch)
        self.in_flight += 1
        for position, record in enumerate(written):
            try:
                self._log.append(route.addressable.topic, record, batch.stored)
            except HeadraceError as error:
                batch.abort(len(records) - position, error)
                return

    def _finish_batch(self, batch: Batch) -> None:
        self.in_flight -= 1
        if batch.error is not None:
            self._error_responses.not_stored(batch.exchange, batch.route, batch.error)
            return
        batch.exchange.send(_ACCEPTED)
        if batch.route.types is not None:
            for record in batch.records:
                batch.route.types.note(record.headers)
        metrics = batch.route.metrics
        metrics.accepted.value += len(batch.records)
        metrics.bytes.value += len(batch.exchange.body)
        for record in batch.records:
            metrics.sizes.observe(len(record.value or b""))
        metrics.stored_seconds.observe(time.monotonic() - batch.started)


def _body_bytes_max(
    headers: list[tuple[bytes, bytes]], event_bytes_max: int, batch_bytes_max: int
) -> int:
    """Return the limit of the body for a request with these headers. The JSON formats need more
    bytes for the same event (base64: a third more).
    """
    content_type = next((value.lower() for name, value in headers if name == b"content-type"), b"")
    if content_type.startswith(b"application/cloudevents-batch"):
        return batch_bytes_max
    if content_type.startswith(b"application/cloudevents"):
        return min(
            event_bytes_max + event_bytes_max // 3 + 65_536, max(batch_bytes_max, event_bytes_max)
        )
    return event_bytes_max
