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
from headrace_ingress.addresses import Address, Addresses
from headrace_ingress.counts import IngressMetrics
from headrace_ingress.problems import METHODS, Reason, fields, problem, respond, server_reason
from headrace_ingress.settings import IngressSettings

_log = structlog.stdlib.get_logger("headrace.ingress")

_BEFORE_PRODUCE: Final = Failpoint.BEFORE_PRODUCE
_AFTER_PRODUCE: Final = Failpoint.AFTER_PRODUCE
_ACCEPTED: Final = PreparedResponse(202)
_OPTIONS: Final = PreparedResponse(
    200, ((b"allow", METHODS), (b"webhook-allowed-origin", b"*"), (b"webhook-allowed-rate", b"*"))
)
"""Consent to any sender at any rate (CloudEvents Web Hooks, section 4.2)."""
_SURELY_SMALL_BYTES: Final = 131_072
"""More than the headers of a record can have: the server caps a request's head at 64 KiB, `ce_`
names and the arrival time add little.
"""


class Admission:
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
        self.seen = ObservedEventTypes()
        """Types of events accepted here, of addressables whose routing record asks for them."""
        self.addresses = Addresses(
            routes.table,
            metrics,
            self.seen,
            hosts=names_of(settings.hosts),
            local=is_local_bind(settings.host),
        )
        self._uncertain: list[Exchange] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._broken = False
        """Whether the last refresh ended in an error that nobody foresaw: said once, until one ends
        well.
        """
        self._arrival = b""
        self._arrival_ms = 0
        self._complained = -1.0
        self._unsaid = 0
        routes.watch(self.addresses.changed)

    # What the HTTP server calls.

    def admit(self, exchange: Exchange) -> None:
        """Decide by the headers alone whether the body is worth reading."""
        if exchange.method != b"POST":
            self._no_event(exchange)
            return
        address = self.addresses.find(exchange.target, exchange.host)
        if address is None:
            exchange.body_bytes_max = self._settings.batch_bytes_max
            if (reason := self._not_ready()) is not None:
                self._refuse(exchange, None, Reason.NOT_READY, 503, reason)
            return
        exchange.context = address
        limit = address.addressable.event_bytes_max
        length = exchange.length
        if length < 0 or length > limit or length > self._settings.batch_bytes_max:
            limit = exchange.body_bytes_max = _body_bytes_max(
                exchange.headers, limit, self._settings.batch_bytes_max
            )
            if length > limit:
                self._too_large(exchange, address, limit)

    def handle(self, exchange: Exchange) -> None:
        """Take a complete request."""
        address = exchange.context
        if address is None:
            self._wait_for_routes(exchange)
        else:
            self._take(exchange, address)

    def refused(self, refusal: RequestRejected) -> tuple[Fields, bytes]:
        """Give a refusal of the server's own the form that all others have."""
        status, reason = refusal.status, server_reason(refusal.status)
        self._metrics.refuse("", "", status, reason)
        return fields(status, self._settings.retry_after_seconds), problem(
            reason, status, refusal.detail, limit=refusal.limit
        )

    def close(self) -> None:
        """Answer nobody any more."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    def _no_event(self, exchange: Exchange) -> None:
        if (reason := self.addresses.host_refusal(exchange.host)) is not None:
            self._refuse(exchange, None, Reason.FORBIDDEN, 403, reason)
        elif exchange.method == b"OPTIONS":
            exchange.send(_OPTIONS)
        else:
            self._refuse(
                exchange,
                None,
                Reason.METHOD_NOT_ALLOWED,
                405,
                "send events with POST; OPTIONS tells what is allowed",
            )

    # The path of an event.

    def _take(self, exchange: Exchange, address: Address) -> None:
        started = time.monotonic()
        try:
            records = read(
                exchange.headers,
                exchange.body,
                arrival=self._arrival_now(),
                events_max=self._settings.batch_events_max,
            )
        except (InvalidEvent, BatchTooLarge, UnsupportedContent) as error:
            self._not_an_event(exchange, address, error)
            return
        if len(records) != 1:
            self._take_batch(exchange, address, records, started)
            return
        record = records[0]
        addressable = address.addressable
        limit = addressable.event_bytes_max
        size = len(exchange.body)
        if size + _SURELY_SMALL_BYTES > limit and record.size > limit:
            self._too_large(exchange, address, limit)
            return
        stored = partial(self._stored, exchange, address, started, size)
        if address.types is not None:
            stored = partial(self._stored_and_seen, record, address.types, stored)
        failpoint(_BEFORE_PRODUCE)
        try:
            self._log.append(addressable.topic, record, stored)
        except HeadraceError as error:
            self._not_stored(exchange, address, error)
            return
        self.in_flight += 1

    def _stored(
        self,
        exchange: Exchange,
        address: Address,
        started: float,
        size: int,
        error: HeadraceError | None,
    ) -> None:
        self.in_flight -= 1
        if error is not None:
            self._not_stored(exchange, address, error)
            return
        failpoint(_AFTER_PRODUCE)
        exchange.send(_ACCEPTED)
        counts = address.counts
        counts.accepted.value += 1
        counts.bytes.value += size
        counts.stored_seconds.observe(time.monotonic() - started)

    def _stored_and_seen(
        self,
        record: Record,
        types: EventTypeObserver,
        stored: OnStored,
        error: HeadraceError | None,
    ) -> None:
        if error is None:
            types.note(record.headers)
        stored(error)

    def _arrival_now(self) -> bytes:
        """`knativearrivaltime` for this moment, made anew once a millisecond."""
        now_ms = int(time.time() * 1000)
        if now_ms != self._arrival_ms:
            self._arrival_ms = now_ms
            self._arrival = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(
                "%Y-%m-%dT%H:%M:%S."
            ).encode() + b"%03dZ" % (now_ms % 1000)
        return self._arrival

    # A batch: all of it or none is acknowledged.

    def _take_batch(
        self, exchange: Exchange, address: Address, records: list[Record], started: float
    ) -> None:
        limit = address.addressable.event_bytes_max
        for index, record in enumerate(records):
            if record.size > limit:
                self._too_large(exchange, address, limit, index=index)
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
            self._refuse(exchange, address, Reason.TOO_LARGE, 413, detail, limit=size_max)
            return
        batch = _Batch(self, exchange, address, started, records)
        self.in_flight += 1
        for position, record in enumerate(records):
            try:
                self._log.append(address.addressable.topic, record, batch.stored)
            except HeadraceError as error:
                batch.give_up(len(records) - position, error)
                return

    def finish_batch(self, batch: "_Batch") -> None:
        """All events of a batch are stored or refused."""
        self.in_flight -= 1
        if batch.error is not None:
            self._not_stored(batch.exchange, batch.address, batch.error)
            return
        batch.exchange.send(_ACCEPTED)
        if batch.address.types is not None:
            for record in batch.records:
                batch.address.types.note(record.headers)
        counts = batch.address.counts
        counts.accepted.value += len(batch.records)
        counts.bytes.value += len(batch.exchange.body)
        counts.stored_seconds.observe(time.monotonic() - batch.started)

    # An address that is not known.

    def _wait_for_routes(self, exchange: Exchange) -> None:
        self._uncertain.append(exchange)
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        """Answer who waits, in rounds: whoever came during one needs the next, since a 404 must be
        as new as its request.
        """
        try:
            while self._uncertain:
                waiting, self._uncertain = self._uncertain, []
                certain = await self._read_to_the_end()
                for exchange in waiting:
                    self._answer_waiting(exchange, certain=certain)
        finally:
            self._refreshing = None

    async def _read_to_the_end(self) -> bool:
        seconds = self._settings.route_seconds
        try:
            certain = await asyncio.wait_for(self._routes.refresh(seconds), seconds + 0.25)
        except TimeoutError:
            return False
        except HeadraceError as error:
            _log.warning("the routing table could not be brought up to date", error=str(error))
            return False
        except Exception:  # Whoever waits must be answered, whatever went wrong.
            if not self._broken:
                _log.exception(
                    "the routing table could not be brought up to date, by a mistake of ours;"
                    " requests for unknown paths get a 503"
                )
            self._broken = True
            return False
        self._broken = False
        return certain

    def _answer_waiting(self, exchange: Exchange, *, certain: bool) -> None:
        try:
            self._route_again(exchange, certain=certain)
        except Exception:  # The others wait behind this one.
            _log.exception(
                "a request that waited for the routing table could not be handled, by a mistake of"
                " ours"
            )
            self._refuse_uncertain(exchange)

    def _route_again(self, exchange: Exchange, *, certain: bool) -> None:
        if exchange.answered:
            return
        address = self.addresses.find(exchange.target, exchange.host)
        if address is not None:
            self._take(exchange, address)
        elif (reason := self.addresses.host_refusal(exchange.host)) is not None and certain:
            self._refuse(exchange, None, Reason.FORBIDDEN, 403, reason)
        elif certain:
            self._refuse(
                exchange, None, Reason.UNKNOWN_ADDRESS, 404, self.addresses.unknown(exchange.target)
            )
        else:
            self._refuse_uncertain(exchange)

    def _refuse_uncertain(self, exchange: Exchange) -> None:
        detail = (
            "this path or Host is not known, and whether it is new could not be found out within"
            f" {self._settings.route_seconds:g} s"
        )
        self._refuse(exchange, None, Reason.ROUTES_UNCERTAIN, 503, detail)

    # Refusals.

    def _not_an_event(
        self,
        exchange: Exchange,
        address: Address,
        error: InvalidEvent | BatchTooLarge | UnsupportedContent,
    ) -> None:
        match error:
            case InvalidEvent():
                self._refuse(
                    exchange,
                    address,
                    Reason.INVALID_EVENT,
                    400,
                    str(error),
                    attribute=error.attribute,
                    index=error.index,
                )
            case BatchTooLarge():
                self._refuse(
                    exchange,
                    address,
                    Reason.BATCH_TOO_LARGE,
                    413,
                    str(error),
                    limit=error.events_max,
                )
            case UnsupportedContent():
                self._refuse(
                    exchange,
                    address,
                    Reason.UNSUPPORTED_CONTENT,
                    415,
                    str(error),
                    header=error.header,
                )

    def _too_large(
        self, exchange: Exchange, address: Address, limit: int, *, index: int | None = None
    ) -> None:
        detail = (
            f"the event is larger than {limit} bytes, headers and data together, the limit here"
        )
        self._refuse(exchange, address, Reason.TOO_LARGE, 413, detail, limit=limit, index=index)

    def _not_stored(self, exchange: Exchange, address: Address, error: HeadraceError) -> None:
        match error:
            case LogFull():
                detail = f"{error.bytes_max} bytes of events wait to be stored; send it again later"
                self._refuse(
                    exchange, address, Reason.BACKLOG_FULL, 503, detail, limit=error.bytes_max
                )
            case RecordTooLarge():
                self._too_large(exchange, address, error.size_max)
            case _:
                self._complain(error)
                self._refuse(
                    exchange,
                    address,
                    Reason.NOT_STORED,
                    503,
                    "Kafka did not store the event; send it again later",
                )

    def _complain(self, error: HeadraceError) -> None:
        now = time.monotonic()
        self._unsaid += 1
        # An outage refuses thousands a second; the metric counts them, the log says that it is so.
        if now - self._complained >= 1.0:
            _log.warning("events are not stored", error=str(error), events=self._unsaid)
            self._complained, self._unsaid = now, 0

    def _refuse(
        self,
        exchange: Exchange,
        address: Address | None,
        reason: Reason,
        status: int,
        detail: str,
        **members: Any,
    ) -> None:
        addressable = address.addressable if address is not None else None
        self._metrics.refuse(
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

    __slots__ = ("_admission", "_open", "address", "error", "exchange", "records", "started")

    def __init__(
        self,
        admission: Admission,
        exchange: Exchange,
        address: Address,
        started: float,
        records: Sequence[Record],
    ) -> None:
        self.exchange = exchange
        self.address = address
        self.started = started
        self.records = records
        self.error: HeadraceError | None = None
        self._admission = admission
        self._open = len(records)

    def stored(self, error: HeadraceError | None) -> None:
        """One more is stored or refused."""
        self.error = self.error or error
        self._open -= 1
        if not self._open:
            self._admission.finish_batch(self)

    def give_up(self, left: int, error: HeadraceError) -> None:
        """The last `left` events were not even appended."""
        self.error = self.error or error
        self._open -= left
        if not self._open:
            self._admission.finish_batch(self)


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
