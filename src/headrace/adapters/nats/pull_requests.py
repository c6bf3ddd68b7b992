"""Asks a pull consumer for records, one request at a time, so that never more records arrive than
were asked for.

The server answers a request with messages, and with a status when the request ends before it is
used up: it expired, the next message is larger than the request allows, or the consumer was
deleted. A request to a consumer that does not exist is not answered at all.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg

from headrace.adapters.nats.connection import NatsConnection, NatsSubscription
from headrace.adapters.nats.consumers import SECOND_NS

EXPIRES_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = 2.0
_TOO_LARGE: Final = "Message Size Exceeds MaxBytes"
_ENDED: Final = frozenset({"404", "408"})


@dataclass(frozen=True, slots=True)
class DeliveredMessage:
    """A message with what its acknowledgement subject says about it."""

    message: Msg
    deliveries: int
    """How often it was delivered, with this time."""
    offset: int
    consumer_sequence: int
    timestamp_ms: int
    unread: int
    """Records that the consumer has not delivered yet."""


def parse_message(message: Msg) -> DeliveredMessage:
    """Read the acknowledgement subject, in the form of nats-server before 2.11 (9 tokens) or with
    domain and account. Raises ValueError for a message that is not from a consumer.
    """
    tokens = message.reply.split(".")
    at = 4 if len(tokens) == 9 else 6
    if len(tokens) < 9 or tokens[1] != "ACK":
        raise ValueError(f"not delivered by a consumer: {message.subject}")
    return DeliveredMessage(
        message,
        int(tokens[at]),
        int(tokens[at + 1]) - 1,
        int(tokens[at + 2]),
        int(tokens[at + 3]) // 1_000_000,
        int(tokens[at + 4]),
    )


class PullRequests:
    """The requests of one reader to one consumer. `woken` is called when a request has ended."""

    def __init__(
        self,
        connection: NatsConnection,
        received: Callable[[DeliveredMessage], None],
        woken: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._received = received
        self._woken = woken
        self._subscription: NatsSubscription | None = None
        self._path = ""
        self._inbox = ""
        self._number = 0
        self._asked_at = 0.0
        self._arrived = 0
        self.outstanding = 0
        """Records that may still arrive."""
        self.next_too_large = False
        """Whether the next record is larger than the last request allowed."""
        self.consumer_gone = False
        """Whether the consumer was deleted while it was asked."""

    async def open(self, stream: str, consumer: str) -> None:
        """Begin to ask this consumer. What was asked before is forgotten: its inbox is left, so
        that nothing more arrives for it. Raises `LogUnavailable`.
        """
        await self.close()
        self.next_too_large = self.consumer_gone = False
        self._path = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._on_message)

    async def close(self) -> None:
        """Receive nothing more. Idempotent; never raises."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await self._connection.unsubscribe(subscription)
        self.outstanding = 0

    def ask(self, records: int, bytes_max: int | None) -> None:
        """Request this many records of this total size; only when nothing is outstanding."""
        self._number += 1
        self._arrived = 0
        self.outstanding = records
        self.next_too_large = False
        self._asked_at = asyncio.get_running_loop().time()
        request = {"batch": records, "expires": int(EXPIRES_SECONDS * SECOND_NS)}
        if bytes_max is not None:
            request["max_bytes"] = bytes_max
        self._connection.send(
            self._path, json.dumps(request).encode(), reply=f"{self._inbox}.{self._number}"
        )

    @property
    def unanswered(self) -> bool:
        """Whether a request was not even reported as expired: the consumer may not exist."""
        return (
            self.outstanding > 0
            and asyncio.get_running_loop().time() - self._asked_at
            > EXPIRES_SECONDS + _GRACE_SECONDS
        )

    async def _on_message(self, message: Msg) -> None:
        if self._subscription is None:
            return
        if message.reply:
            if self.outstanding:
                self.outstanding -= 1
            self._arrived += 1
            self._received(parse_message(message))
            if not self.outstanding:
                self._woken()
        elif message.subject == f"{self._inbox}.{self._number}":
            self._end(message.headers or {})

    def _end(self, headers: dict[str, str]) -> None:
        status = headers.get("Status")
        if status == "100":
            return
        self.outstanding = 0
        text = headers.get("Description", "")
        if text == _TOO_LARGE:
            self.next_too_large = not self._arrived
        elif status not in _ENDED:
            self.consumer_gone = True
        self._woken()
