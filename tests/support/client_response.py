"""A response as the HTTP client parses it, without a network: bytes in, the outcome out."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from headrace.adapters.http.client_attempt import HttpAttempt
from headrace.adapters.http.client_body_budget import BodyBudget
from headrace.adapters.http.client_connection import ClientConnection
from headrace.adapters.http.client_options import ClientOptions
from headrace.domain.delivery import Outcome

_AT_ONCE = SimpleNamespace(
    call_soon=lambda callback: callback(),
    call_later=lambda _seconds, _callback: None,
    time=lambda: 0.0,
)
"""The part of an event loop that a `BodyBudget` needs; time does not pass."""


class _Transport(asyncio.Transport):
    def write(self, data: Any) -> None:
        """Readers are not supported."""

    def abort(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def get_write_buffer_size(self) -> int:
        """Always empty."""
        return 0


class _Pool:
    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.reusable = False
        self.last_response = b""
        self.last_outcome = Outcome()

    def reset(self) -> None:
        """Forget the outcome of the last request."""
        self.outcome, self.reusable = None, False

    def answered(
        self, connection: ClientConnection, attempt: HttpAttempt, outcome: Outcome, reusable: bool
    ) -> None:
        self.outcome, self.reusable = outcome, reusable

    def broken(
        self,
        connection: ClientConnection,
        attempt: HttpAttempt,
        outcome: Outcome,
        *,
        untouched: bool,
    ) -> None:
        self.outcome = outcome

    def unusable(self, connection: ClientConnection) -> None:
        """Does nothing."""

    def reply_bytes_max(self) -> int:
        """The maximum size of a reply."""
        return ClientOptions().bodies_bytes_max

    def on_surplus(self) -> None:
        """Does nothing."""


class ResponseReader:
    """Reads responses one after the other, on one connection while it can be reused."""

    def __init__(self) -> None:
        self._pool = _Pool()
        self._connection: ClientConnection | None = None

    def read(self, raw: bytes, *, piece: int) -> Outcome | None:
        """Answer a request with these bytes, in pieces of this size; return the outcome of the
        request. The connection is closed afterwards unless it can be reused.
        """
        pool = self._pool
        connection = self._connection or self._connect()
        pool.reset()
        connection.send(cast(HttpAttempt, SimpleNamespace(head=b"", body=b"")))
        for at in range(0, len(raw), piece):
            if pool.outcome is not None:
                break
            connection.data_received(raw[at : at + piece])
        self._connection = connection if pool.reusable else None
        if self._connection is None:
            connection.connection_lost(None)
        return pool.outcome

    def _connect(self) -> ClientConnection:
        options = ClientOptions()
        budget = BodyBudget(options.bodies_bytes_max, cast(asyncio.AbstractEventLoop, _AT_ONCE))
        connection = ClientConnection(self._pool, options, budget)
        connection.connection_made(_Transport())
        return connection


def respond(raw: bytes, *, piece: int) -> Outcome | None:
    """Answer a request on a new connection; as `ResponseReader.read`."""
    return ResponseReader().read(raw, piece=piece)
