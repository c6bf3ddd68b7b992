"""Reading a subscription of Google Cloud Pub/Sub with a streaming pull.

A message is acknowledged after the sink has taken it. Until then, its deadline is extended. What
is held at the same time is bounded by number and bytes, here and at Pub/Sub.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any, Final

import structlog
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber import SubscriberAsyncClient

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError
from headrace.domain.event import Event
from headrace.domain.ports import Clock
from headrace_sources.adapters.gcp_pubsub_client import (
    CALL_SECONDS,
    Errors,
    fault_of,
    unavailable,
)
from headrace_sources.adapters.gcp_pubsub_events import Message
from headrace_sources.adapters.gcp_pubsub_leases import (
    HeldMessage,
    MessageLeases,
    Postponed,
)
from headrace_sources.source import Emit, NotDelivered, SourceFault

logger = structlog.get_logger(__name__)

MESSAGES_MAX: Final = 1_000
"""Messages held at the same time."""
BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of these. One more response may be held beyond that."""
READ_SECONDS: Final = 90.0
"""A stream that is silent for so long is opened again: the connection may be dead."""
PING_SECONDS: Final = 30.0
"""Pub/Sub closes a stream on which the client is silent."""
STREAM_SECONDS: Final = 1_800.0
RECONNECT: Final = Backoff((0.1, 0.5, 1.0, 2.0, 4.0, 8.0))
FAILURES_MAX: Final = 6
"""Streams that fail one after the other before the source reports that."""
IDS_MAX: Final = 1_000
"""Ids of acknowledgement in one request; Pub/Sub takes 512 KiB."""
RELEASE_SECONDS: Final = 3.0
"""Time for giving messages back when the source stops."""
PROTOCOL_VERSION: Final = 1
"""With it, Pub/Sub answers the pings."""


class SubscriptionReader:
    """Reads one subscription until it is cancelled."""

    def __init__(
        self,
        client: SubscriberAsyncClient,
        subscription: str,
        *,
        event_of: Callable[[Message], Event],
        emit: Emit,
        clock: Clock,
        deadline_seconds: int,
        condition: str,
    ) -> None:
        """`subscription` is its full name, `deadline_seconds` how long Pub/Sub waits for an
        acknowledgement before it delivers a message again, `condition` what a fault is shown in.
        """
        self._client = client
        self._subscription = subscription
        self._event_of = event_of
        self._emit = emit
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._condition = condition
        self._client_id = str(uuid.uuid4())
        """Pub/Sub sends the messages of one ordering key to the same client."""
        self._leases = MessageLeases(deadline_seconds)
        self._postponed: list[Postponed] = []
        self._pending_reports = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Read and emit. Raises `SourceFault`."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                for part in (self._read(), self._report(), self._extend()):
                    self._tasks.create_task(part)
        except ExceptionGroup as group:
            faults = [each for each in group.exceptions if isinstance(each, SourceFault)]
            if not faults:
                raise
            raise faults[0] from None
        finally:
            await self._release()

    # Reading.

    async def _read(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._responses()) as responses:
                    async for response in responses:
                        failures = 0
                        for received in response.received_messages:
                            self._receive(received)
                        await self._wait_for_room()
                # Pub/Sub ends each stream after some time.
                await asyncio.sleep(RECONNECT.seconds(1))
                failures = 0
            except Errors as error:
                what = f"reading {self._subscription}"
                fault = fault_of(error, what, self._condition)
                failures += 1
                if fault is None and failures >= FAILURES_MAX:
                    fault = unavailable(error, what, self._condition)
                if fault is not None:
                    raise fault from None
                await asyncio.sleep(RECONNECT.seconds(failures))

    async def _responses(self) -> AsyncGenerator[Any]:
        """The responses of one stream, as messages of protobuf."""
        stream: Any = None
        try:
            while True:
                try:
                    async with asyncio.timeout(READ_SECONDS):
                        if stream is None:
                            # This returns with the first response.
                            stream = await self._client.streaming_pull(
                                requests=self._requests(), retry=None, timeout=STREAM_SECONDS
                            )
                            responses = aiter(stream)
                        response = await anext(responses)
                except (StopAsyncIteration, TimeoutError):
                    return
                yield types.StreamingPullResponse.pb(response)
        finally:
            if stream is not None:
                stream.cancel()

    async def _requests(self) -> AsyncIterator[types.StreamingPullRequest]:
        yield types.StreamingPullRequest(
            subscription=self._subscription,
            stream_ack_deadline_seconds=self._deadline_seconds,
            client_id=self._client_id,
            max_outstanding_messages=MESSAGES_MAX,
            max_outstanding_bytes=BYTES_MAX,
            protocol_version=PROTOCOL_VERSION,
        )
        while True:
            await asyncio.sleep(PING_SECONDS)
            yield types.StreamingPullRequest()

    async def _wait_for_room(self) -> None:
        while len(self._leases) >= MESSAGES_MAX or self._leases.size >= BYTES_MAX:
            self._room.clear()
            await self._room.wait()

    def _receive(self, received: Any) -> None:
        found = received.message
        message = Message(
            id=found.message_id,
            data=found.data,
            publish_time=found.publish_time.ToJsonString(),
            attributes=dict(found.attributes),
            ordering_key=found.ordering_key,
        )
        held = HeldMessage(
            message_id=message.id,
            ack_id=received.ack_id,
            ordering_key=message.ordering_key,
            size=found.ByteSize(),
            event=self._event_of(message),
        )
        match self._leases.receive(held, self._clock.monotonic()):
            case HeldMessage() as first:
                self._tasks.create_task(self._deliver(first))
            case Postponed() as postponed:
                self._postpone(postponed)

    # Emitting.

    async def _deliver(self, message: HeldMessage) -> None:
        """Emit a message, and then those that came after it with the same ordering key."""
        following: HeldMessage | None = message
        while following is not None:
            try:
                await self._emit(following.event)
            except HeadraceError as error:
                if not isinstance(error, NotDelivered):
                    logger.warning(
                        "pubsub_event_invalid",
                        subscription=self._subscription,
                        message_id=following.message_id,
                        error=str(error),
                    )
                self._postpone(self._leases.failed(following, self._clock.monotonic()))
                return
            following = self._leases.taken(following)
            self._pending_reports.set()

    def _postpone(self, postponed: Postponed) -> None:
        self._postponed.append(postponed)
        self._pending_reports.set()
        self._room.set()

    # Reporting to Pub/Sub.

    async def _report(self) -> None:
        """Acknowledge what the sink has taken, and give back what it has not."""
        failures = 0
        while True:
            await self._pending_reports.wait()
            self._pending_reports.clear()
            try:
                await self._report_once()
                failures = 0
            except Errors as error:
                fault = fault_of(error, f"acknowledging to {self._subscription}", self._condition)
                if fault is not None:
                    raise fault from None
                failures += 1
                self._pending_reports.set()
                await asyncio.sleep(RECONNECT.seconds(failures))

    async def _report_once(self) -> None:
        taken = self._leases.to_acknowledge()
        for start in range(0, len(taken), IDS_MAX):
            part = taken[start : start + IDS_MAX]
            await self._client.acknowledge(
                subscription=self._subscription,
                ack_ids=[each.ack_id for each in part],
                retry=None,
                timeout=CALL_SECONDS,
            )
            self._leases.acknowledged(part)
            self._room.set()
        postponed, self._postponed = self._postponed, []
        try:
            for seconds in sorted({each.seconds for each in postponed}):
                same = [each.ack_ids for each in postponed if each.seconds == seconds]
                await self._modify(tuple(chain.from_iterable(same)), seconds)
        except Errors:
            self._postponed += postponed
            raise

    async def _extend(self) -> None:
        """Extend the deadline of what is held."""
        interval = self._deadline_seconds / 3
        while True:
            await asyncio.sleep(interval)
            try:
                await self._modify(tuple(self._leases.ack_ids), self._deadline_seconds)
            except Errors as error:
                fault = fault_of(error, f"reading {self._subscription}", self._condition)
                if fault is not None:
                    raise fault from None
                # It is tried again before the deadline.
                logger.info("pubsub_deadline_not_extended", error=str(error))

    async def _modify(self, ack_ids: Sequence[str], seconds: int) -> None:
        for start in range(0, len(ack_ids), IDS_MAX):
            await self._client.modify_ack_deadline(
                subscription=self._subscription,
                ack_ids=list(ack_ids[start : start + IDS_MAX]),
                ack_deadline_seconds=seconds,
                retry=None,
                timeout=CALL_SECONDS,
            )

    async def _release(self) -> None:
        """Acknowledge what was taken, and give the rest back at once, for another process."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._report_once()
                await self._modify(tuple(self._leases.ack_ids), 0)
        except Errors as error:
            # Pub/Sub delivers these messages again after their deadline.
            logger.info("pubsub_messages_not_released", error=str(error))
