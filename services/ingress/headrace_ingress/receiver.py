"""What the ingress does with a request: find out whom it is for, read the event, append it, and
answer when it is stored.

The path of an event is one call chain without task, future or await: `handle` appends, `_stored`
answers. Only a request for an unknown address waits, for the routing table to be read to its end,
because a 404 tells a sender to give up for good.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import structlog

from headrace.adapters.http.server import Exchange, Fields, PreparedResponse, RequestRejected
from headrace.adapters.http.server_local_guard import is_local_bind, names_of
from headrace.codec.http import read
from headrace.domain.errors import HeadraceError, LogFull, RecordTooLarge
from headrace.domain.event import BatchTooLarge, InvalidEvent, UnsupportedContent
from headrace.domain.observed_event_types import EventTypeObserver, ObservedEventTypes
from headrace.domain.ports import Log, OnStored, RoutingReader
from headrace.domain.record import Record
from headrace.runtime.failpoints import Failpoint, failpoint
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.problems import (
    METHODS,
    ProblemType,
    fields,
    problem,
    respond,
    server_problem_type,
)
from headrace_ingress.route_cache import RouteCache, RouteEntry
from headrace_ingress.settings import IngressSettings

logger = structlog.get_logger(__name__)

_BEFORE_PRODUCE: Final = Failpoint.BEFORE_PRODUCE
_AFTER_PRODUCE: Final = Failpoint.AFTER_PRODUCE
_ACCEPTED: Final = PreparedResponse(202)
_OPTIONS: Final = PreparedResponse(
    200, ((b"allow", METHODS), (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*"))
)
"""Consent to any sender at any rate (CloudEvents Web Hooks, section 4.2)."""
_HEADERS_BYTES_MAX: Final = 131_072
"""More than the headers of a record can have: the server caps a request's head at 64 KiB, `ce_`
names and the arrival time add little.
"""


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
    ) -> None:
        self.in_flight = 0
        """Requests whose events are on their way to the log."""
        self._settings = settings
        self._log = log
        self._routes = routes
        self._metrics = metrics
        self._not_ready = not_ready
        self.observed_types = ObservedEventTypes()
        """Types of events accepted here, of addressables whose routing record asks for them."""
        self.route_cache = RouteCache(
            routes.table,
            metrics,
            self.observed_types,
            hosts=names_of(settings.hosts),
            local=is_local_bind(settings.host),
        )
        self._waiting: list[Exchange] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_failed = False
        """Whether the last refresh ended in an error that nobody foresaw: said once, until one ends
        well.
        """
        self._arrival = b""
        self._arrival_ms = 0
        self._logged_at = -1.0
        self._unlogged = 0
        routes.watch(self.route_cache.on_routes_changed)

    # What the HTTP server calls.

    def admit(self, exchange: Exchange) -> None:
        """Decide by the headers alone whether the body is worth reading."""
        if exchange.method != b"POST":
            self._handle_other_method(exchange)
            return
        route = self.route_cache.find(exchange.target, exchange.host)
        if route is None:
            exchange.body_bytes_max = self._settings.batch_bytes_max
            if (reason := self._not_ready()) is not None:
                self._refuse(exchange, None, ProblemType.NOT_READY, 503, reason)
            return
        exchange.context = route
        limit = route.addressable.event_bytes_max
        length = exchange.length
        if length < 0 or length > limit or length > self._settings.batch_bytes_max:
            limit = exchange.body_bytes_max = _body_bytes_max(
                exchange.headers, limit, self._settings.batch_bytes_max
            )
            if length > limit:
                self._refuse_too_large(exchange, route, limit)

    def handle(self, exchange: Exchange) -> None:
        """Take a complete request."""
        route = exchange.context
        if route is None:
            self._wait_for_routes(exchange)
        else:
            self._receive(exchange, route)

    def refused(self, refusal: RequestRejected) -> tuple[Fields, bytes]:
        """Give a refusal of the server's own the form that all others have."""
        status, reason = refusal.status, server_problem_type(refusal.status)
        self._metrics.count_refusal("", "", status, reason)
        return fields(status, self._settings.retry_after_seconds), problem(
            reason, status, refusal.detail, limit=refusal.limit
        )

    def close(self) -> None:
        """Answer nobody any more."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _handle_other_method(self, exchange: Exchange) -> None:
        if (reason := self.route_cache.host_rejection(exchange.host)) is not None:
            self._refuse(exchange, None, ProblemType.FORBIDDEN, 403, reason)
        elif exchange.method == b"OPTIONS":
            exchange.send(_OPTIONS)
        else:
            self._refuse(
                exchange,
                None,
                ProblemType.METHOD_NOT_ALLOWED,
                405,
                "send events with POST; OPTIONS tells what is allowed",
            )

    # The path of an event.

    def _receive(self, exchange: Exchange, route: RouteEntry) -> None:
        started = time.monotonic()
        try:
            records = read(
                exchange.headers,
                exchange.body,
                arrival=self._arrival_time(),
                events_max=self._settings.batch_events_max,
            )
        except (InvalidEvent, BatchTooLarge, UnsupportedContent) as error:
            self._refuse_invalid(exchange, route, error)
            return
        if len(records) != 1:
            self._receive_batch(exchange, route, records, started)
            return
        record = records[0]
        addressable = route.addressable
        limit = addressable.event_bytes_max
        size = len(exchange.body)
        if size + _HEADERS_BYTES_MAX > limit and record.size > limit:
            self._refuse_too_large(exchange, route, limit)
            return
        stored = partial(self._stored, exchange, route, started, size)
        if route.types is not None:
            stored = partial(self._stored_and_observed, record, route.types, stored)
        failpoint(_BEFORE_PRODUCE)
        try:
            self._log.append(addressable.topic, record, stored)
        except HeadraceError as error:
            self._refuse_not_stored(exchange, route, error)
            return
        self.in_flight += 1

    def _stored(
        self,
        exchange: Exchange,
        route: RouteEntry,
        started: float,
        size: int,
        error: HeadraceError | None,
    ) -> None:
        self.in_flight -= 1
        if error is not None:
            self._refuse_not_stored(exchange, route, error)
            return
        failpoint(_AFTER_PRODUCE)
        exchange.send(_ACCEPTED)
        metrics = route.metrics
        metrics.accepted.value += 1
        metrics.bytes.value += size
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

    def _arrival_time(self) -> bytes:
        """`knativearrivaltime` for this moment, made anew once a millisecond."""
        now_ms = int(time.time() * 1000)
        if now_ms != self._arrival_ms:
            self._arrival_ms = now_ms
            self._arrival = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(
                "%Y-%m-%dT%H:%M:%S."
            ).encode() + b"%03dZ" % (now_ms % 1000)
        return self._arrival

    # A batch: all of it or none is acknowledged.

    def _receive_batch(
        self, exchange: Exchange, route: RouteEntry, records: list[Record], started: float
    ) -> None:
        limit = route.addressable.event_bytes_max
        for index, record in enumerate(records):
            if record.size > limit:
                self._refuse_too_large(exchange, route, limit, index=index)
                return
        if not records:
            exchange.send(_ACCEPTED)
            return
        size, size_max = (
            self._settings.batch_stored_bytes(records),
            self._settings.batch_stored_bytes_max,
        )
        # Before the first append: what is stored of a batch that does not fit would be stored again
        # with each retry.
        if size > size_max:
            detail = (
                f"the {len(records)} events of the batch take {size} bytes when stored, each with a"
                f" copy of the headers that travel; {size_max} is the limit here; send fewer events"
                " in one batch"
            )
            self._refuse(exchange, route, ProblemType.TOO_LARGE, 413, detail, limit=size_max)
            return
        batch = _Batch(self, exchange, route, started, records)
        self.in_flight += 1
        for position, record in enumerate(records):
            try:
                self._log.append(route.addressable.topic, record, batch.stored)
            except HeadraceError as error:
                batch.abort(len(records) - position, error)
                return

    def finish_batch(self, batch: "_Batch") -> None:
        """All events of a batch are stored or refused."""
        self.in_flight -= 1
        if batch.error is not None:
            self._refuse_not_stored(batch.exchange, batch.route, batch.error)
            return
        batch.exchange.send(_ACCEPTED)
        if batch.route.types is not None:
            for record in batch.records:
                batch.route.types.note(record.headers)
        metrics = batch.route.metrics
        metrics.accepted.value += len(batch.records)
        metrics.bytes.value += len(batch.exchange.body)
        metrics.stored_seconds.observe(time.monotonic() - batch.started)

    # An address that is not known.

    def _wait_for_routes(self, exchange: Exchange) -> None:
        self._waiting.append(exchange)
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        """Answer who waits, in rounds: whoever came during one needs the next, since a 404 must be
        as new as its request.
        """
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                certain = await self._refresh_routes()
                for exchange in waiting:
                    self._answer_waiting(exchange, certain=certain)
        finally:
            self._refreshing = None

    async def _refresh_routes(self) -> bool:
        seconds = self._settings.route_seconds
        try:
            certain = await asyncio.wait_for(self._routes.refresh(seconds), seconds + 0.25)
        except TimeoutError:
            return False
        except HeadraceError as error:
            logger.warning("routing_table_refresh_failed", error=str(error))
            return False
        except Exception:  # Whoever waits must be answered, whatever went wrong.
            if not self._refresh_failed:
                logger.exception(
                    "routing_table_refresh_failed",
                    error="internal error",
                    next_step="report this error; requests for unknown paths get a 503 until then",
                )
            self._refresh_failed = True
            return False
        self._refresh_failed = False
        return certain

    def _answer_waiting(self, exchange: Exchange, *, certain: bool) -> None:
        try:
            self._route_again(exchange, certain=certain)
        except Exception:  # The others wait behind this one.
            logger.exception(
                "request_failed", error="internal error", next_step="report this error"
            )
            self._refuse_routes_uncertain(exchange)

    def _route_again(self, exchange: Exchange, *, certain: bool) -> None:
        if exchange.answered:
            return
        route = self.route_cache.find(exchange.target, exchange.host)
        if route is not None:
            self._receive(exchange, route)
        elif (reason := self.route_cache.host_rejection(exchange.host)) is not None and certain:
            self._refuse(exchange, None, ProblemType.FORBIDDEN, 403, reason)
        elif certain:
            self._refuse(
                exchange,
                None,
                ProblemType.UNKNOWN_ADDRESS,
                404,
                self.route_cache.explain_unknown(exchange.target),
            )
        else:
            self._refuse_routes_uncertain(exchange)

    def _refuse_routes_uncertain(self, exchange: Exchange) -> None:
        detail = (
            "this path or Host is not known, and whether it is new could not be found out within"
            f" {self._settings.route_seconds:g} s"
        )
        self._refuse(exchange, None, ProblemType.ROUTES_UNCERTAIN, 503, detail)

    # Refusals.

    def _refuse_invalid(
        self,
        exchange: Exchange,
        route: RouteEntry,
        error: InvalidEvent | BatchTooLarge | UnsupportedContent,
    ) -> None:
        match error:
            case InvalidEvent():
                self._refuse(
                    exchange,
                    route,
                    ProblemType.INVALID_EVENT,
                    400,
                    str(error),
                    attribute=error.attribute,
                    index=error.index,
                )
            case BatchTooLarge():
                self._refuse(
                    exchange,
                    route,
                    ProblemType.BATCH_TOO_LARGE,
                    413,
                    str(error),
                    limit=error.events_max,
                )
            case UnsupportedContent():
                self._refuse(
                    exchange,
                    route,
                    ProblemType.UNSUPPORTED_CONTENT,
                    415,
                    str(error),
                    header=error.header,
                )

    def _refuse_too_large(
        self, exchange: Exchange, route: RouteEntry, limit: int, *, index: int | None = None
    ) -> None:
        detail = (
            f"the event is larger than {limit} bytes, headers and data together, the limit here"
        )
        self._refuse(exchange, route, ProblemType.TOO_LARGE, 413, detail, limit=limit, index=index)

    def _refuse_not_stored(
        self, exchange: Exchange, route: RouteEntry, error: HeadraceError
    ) -> None:
        match error:
            case LogFull():
                detail = f"{error.bytes_max} bytes of events wait to be stored; send it again later"
                self._refuse(
                    exchange, route, ProblemType.BACKLOG_FULL, 503, detail, limit=error.bytes_max
                )
            case RecordTooLarge():
                self._refuse_too_large(exchange, route, error.size_max)
            case _:
                self._log_not_stored(error)
                self._refuse(
                    exchange,
                    route,
                    ProblemType.NOT_STORED,
                    503,
                    "Kafka did not store the event; send it again later",
                )

    def _log_not_stored(self, error: HeadraceError) -> None:
        now = time.monotonic()
        self._unlogged += 1
        # An outage refuses thousands a second; the metric counts them, the log says that it is so.
        if now - self._logged_at >= 1.0:
            logger.warning("events_not_stored", error=str(error), events=self._unlogged)
            self._logged_at, self._unlogged = now, 0

    def _refuse(
        self,
        exchange: Exchange,
        route: RouteEntry | None,
        reason: ProblemType,
        status: int,
        detail: str,
        **members: Any,
    ) -> None:
        addressable = route.addressable if route is not None else None
        self._metrics.count_refusal(
            addressable.namespace if addressable else "",
            addressable.name if addressable else "",
            status,
            reason,
        )
        respond(
            exchange,
            reason,
            status,
            detail,
            retry_after_seconds=self._settings.retry_after_seconds,
            **members,
        )


class _Batch:
    """A batch on its way to the log."""

    __slots__ = ("_open", "_receiver", "error", "exchange", "records", "route", "started")

    def __init__(
        self,
        receiver: EventReceiver,
        exchange: Exchange,
        route: RouteEntry,
        started: float,
        records: Sequence[Record],
    ) -> None:
        self.exchange = exchange
        self.route = route
        self.started = started
        self.records = records
        self.error: HeadraceError | None = None
        self._receiver = receiver
        self._open = len(records)

    def stored(self, error: HeadraceError | None) -> None:
        """One more is stored or refused."""
        self.error = self.error or error
        self._open -= 1
        if not self._open:
            self._receiver.finish_batch(self)

    def abort(self, left: int, error: HeadraceError) -> None:
        """The last `left` events were not even appended."""
        self.error = self.error or error
        self._open -= left
        if not self._open:
            self._receiver.finish_batch(self)


def _body_bytes_max(
    headers: list[tuple[bytes, bytes]], event_bytes_max: int, batch_bytes_max: int
) -> int:
    """How large the body of a request with these headers may be: JSON forms need more bytes for the
    same event (base64: a third).
    """
    content_type = next((value.lower() for name, value in headers if name == b"content-type"), b"")
    if content_type.startswith(b"application/cloudevents-batch"):
        return batch_bytes_max
    if content_type.startswith(b"application/cloudevents"):
        return min(
            event_bytes_max + event_bytes_max // 3 + 65_536, max(batch_bytes_max, event_bytes_max)
        )
    return event_bytes_max
