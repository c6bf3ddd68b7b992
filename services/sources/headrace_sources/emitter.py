"""Sends the events of one source to its sink: into the topic of an addressable of this
installation, or with an HTTP request to anything else, with retries by the delivery policy.

An event goes through the ingress, although the sink is an addressable, if the ingress has to look
at its data, to report its type, or to write it in another form.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from headrace.cloudevents import write_http
from headrace.codec import kafka
from headrace.domain.attributes import check
from headrace.domain.dead_letter import error_extensions
from headrace.domain.delivery import DeadLetter, Done, Failure, Outcome, decide
from headrace.domain.errors import HeadraceError, RecordTooLarge
from headrace.domain.event import Event
from headrace.domain.ports import Attempt, Clock, Log, Sender, Target
from headrace.domain.record import Record
from headrace.domain.routing import (
    Addressable,
    EventSource,
    Format,
    RoutingTable,
    SchemaValidation,
    addressable_key,
)
from headrace_sources.metrics import SourceMetrics
from headrace_sources.source import NotDelivered, event_time

CONNECTIONS_MAX: Final = 20
"""Connections from one process to one sink."""
IN_FLIGHT_MAX: Final = 2_000
"""Events of one source that are on their way at a time; further ones wait in `__call__`."""
_TOO_LARGE: Final = 413

OnDone = Callable[[Exception | None], None]


@dataclass(frozen=True, slots=True)
class EmitterContext:
    """What the emitters of one process share."""

    log: Log
    sender: Sender
    clock: Clock
    table: RoutingTable
    jitter: Callable[[], float]
    """A random number in [-1, 1]."""


class Emitter:
    """Implements `headrace_sources.source.Emit` for one source."""

    def __init__(
        self,
        context: EmitterContext,
        source: EventSource,
        metrics: SourceMetrics,
        *,
        may_emit: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_emit` says whether this process still has the lease of the source."""
        self._context = context
        self._metrics = metrics
        self._may_emit = may_emit
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._pending: set[_Pending] = set()
        self._addressable: Addressable | None = None
        self.failure: str = ""
        """Why the newest event was not delivered; empty if it was."""
        self.failed_at = 0.0
        """When that was, monotonic."""
        self.source = source
        self._targets: dict[str, Target] = {}
        self._overrides = dict(source.extensions)

    def update(self, source: EventSource) -> None:
        """Use another sink, policy or overrides from the next attempt on."""
        before, self.source = self.source, source
        self._overrides = dict(source.extensions)
        if (before.sink, before.dead_letter_sink) != (source.sink, source.dead_letter_sink):
            self._close_targets()

    @property
    def in_flight(self) -> int:
        """Events that are on their way."""
        return len(self._pending)

    async def __call__(self, event: Event) -> None:
        """See `Emit`."""
        async with self._slots:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            pending = self._begin(event, partial(_settle, done))
            try:
                await done
            finally:
                pending.cancel()

    def start(self, event: Event, done: OnDone) -> Callable[[], None]:
        """See `Emit`."""
        return self._begin(event, done).cancel

    def close(self) -> None:
        """Give up what is on its way, without reporting it, and close the connections."""
        for pending in list(self._pending):
            pending.cancel()
        self._close_targets()

    def _close_targets(self) -> None:
        for target in self._targets.values():
            target.close()
        self._targets.clear()

    def _begin(self, event: Event, done: OnDone) -> "_Pending":
        attributes = {"specversion": "1.0", **event.attributes, **self._overrides}
        check(attributes)
        pending = _Pending(self, Event(attributes, event.data), done)
        self._pending.add(pending)
        self._attempt(pending)
        return pending

    # One attempt: by the log or by HTTP.

    def _attempt(self, pending: "_Pending") -> None:
        pending.timer = None
        if not self._may_emit():
            self._finish(
                pending, NotDelivered("another process of this service runs this source now")
            )
            return
        pending.attempts += 1
        addressable = None if pending.dead_letter else self._direct()
        try:
            if addressable is not None:
                self._append(pending, addressable)
            else:
                self._post(pending)
        except (ValueError, HeadraceError) as error:
            self._conclude(pending, _outcome_of(error))

    def _direct(self) -> Addressable | None:
        """The addressable whose topic takes the event, None if it must be posted."""
        topic = self.source.sink_topic
        if topic is None:
            return None
        found = self._addressable
        if found is None or self._context.table.get(addressable_key(found.uid)) is not found:
            found = next(
                (each for each in self._context.table.addressables() if each.topic == topic), None
            )
            self._addressable = found
        if (
            found is None
            or found.topic != topic
            or found.event_types
            or found.validation is not SchemaValidation.OFF
            or found.format is not Format.BINARY
        ):
            return None
        return found

    def _append(self, pending: "_Pending", addressable: Addressable) -> None:
        record = pending.record
        if record is None:
            arrival = _arrival(int(self._context.clock.now() * 1000))
            record = pending.record = kafka.record(pending.event, (arrival,))
        if record.size > addressable.event_bytes_max:
            raise RecordTooLarge(record.size, addressable.event_bytes_max)
        self._context.log.append(addressable.topic, record, partial(self._stored, pending))

    def _stored(self, pending: "_Pending", error: HeadraceError | None) -> None:
        if pending.done is None:
            return
        if error is None:
            self._finish(pending, None)
        else:
            self._conclude(pending, _outcome_of(error))

    def _post(self, pending: "_Pending") -> None:
        source = self.source
        destination = source.dead_letter_sink if pending.dead_letter else source.sink
        if destination is None:
            raise ValueError("the source has no sink")
        target = self._targets.get(destination.url)
        if target is None:
            target = self._targets[destination.url] = self._context.sender.target(
                destination.url, connections_max=CONNECTIONS_MAX, ca_certs=destination.ca_certs
            )
        message = write_http(pending.event)
        lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers)
        headers = f"Kn-Namespace: {source.namespace}\r\n{lines}".encode("latin-1")
        pending.request = target.post(
            headers,
            message.body,
            timeout_seconds=source.delivery.timeout_seconds,
            answered=partial(self._answered, pending),
        )

    def _answered(self, pending: "_Pending", outcome: Outcome) -> None:
        pending.request = None
        if pending.done is not None:
            self._conclude(pending, outcome)

    # What follows from its outcome.

    def _conclude(self, pending: "_Pending", outcome: Outcome) -> None:
        now = self._context.clock.now()
        decision = decide(
            self.source.delivery, pending.attempts, outcome, now, self._context.jitter()
        )
        match decision:
            case Done():
                self._finish(pending, None)
            case DeadLetter(detail=detail):
                self._give_up(pending, outcome, detail)
            case _:
                self._metrics.retried.value += 1
                loop = asyncio.get_running_loop()
                pending.timer = loop.call_later(max(0.0, decision.at - now), self._attempt, pending)

    def _give_up(self, pending: "_Pending", outcome: Outcome, detail: str) -> None:
        """Send the event to the dead letter sink, if there is one and it was not tried yet."""
        if pending.dead_letter or self.source.dead_letter_sink is None:
            what = "the dead letter sink" if pending.dead_letter else "the sink"
            self._finish(pending, NotDelivered(f"{what} has not taken the event: {detail}"))
            return
        url = self.source.sink.url if self.source.sink else ""
        extensions: dict[str, Any] = {
            name.removeprefix("ce_"): value.decode()
            for name, value in error_extensions(url, outcome)
        }
        pending.event = Event({**pending.event.attributes, **extensions}, pending.event.data)
        pending.dead_letter, pending.attempts = True, 0
        self._attempt(pending)

    def _finish(self, pending: "_Pending", error: NotDelivered | None) -> None:
        done, pending.done = pending.done, None
        self._pending.discard(pending)
        metrics = self._metrics
        if error is not None:
            metrics.not_delivered.value += 1
            self.failure, self.failed_at = str(error), self._context.clock.monotonic()
        else:
            (metrics.dead_lettered if pending.dead_letter else metrics.delivered).value += 1
            self.failure = ""
        if done is not None:
            done(error)

    def forget(self, pending: "_Pending") -> None:
        """Its caller no longer wants the result."""
        self._pending.discard(pending)


class _Pending:
    """One event on its way."""

    __slots__ = (
        "attempts",
        "dead_letter",
        "done",
        "emitter",
        "event",
        "record",
        "request",
        "timer",
    )

    def __init__(self, emitter: Emitter, event: Event, done: OnDone) -> None:
        self.emitter = emitter
        self.event = event
        self.done: OnDone | None = done
        self.attempts = 0
        self.dead_letter = False
        """Whether it is sent to the dead letter sink."""
        self.record: Record | None = None
        """The event as a record, once it was encoded."""
        self.request: Attempt | None = None
        self.timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Stop, unless it has ended. What was appended may still be stored."""
        if self.done is None:
            return
        self.done = None
        if self.request is not None:
            self.request.cancel()
        if self.timer is not None:
            self.timer.cancel()
        self.emitter.forget(self)


def _outcome_of(error: Exception) -> Outcome:
    """What an append that failed means for the delivery policy."""
    if isinstance(error, RecordTooLarge):
        return Outcome(status=_TOO_LARGE, body=str(error).encode())
    return Outcome(failure=Failure.CONNECT, detail=str(error))


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


@lru_cache(maxsize=16)
def _arrival(milliseconds: int) -> tuple[str, bytes]:
    """The header with the time at which an event was accepted, as the ingress sets it. Many events
    come in one millisecond.
    """
    return "ce_knativearrivaltime", event_time(milliseconds / 1000).encode()
