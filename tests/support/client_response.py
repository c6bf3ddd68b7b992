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

    def answered(
        self, connection: ClientConnection, attempt: HttpAttempt, outcome: Outcome, reusable: bool
    ) -> None:
        self.outcome = outcome

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


def respond(raw: bytes, *, piece: int) -> Outcome | None:
    """Answer a request with these bytes, in pieces of this size, and close the connection; returns
    the outcome of the request.
    """
    pool = _Pool()
    options = ClientOptions()
    connection = ClientConnection(
        pool,
        options,
        BodyBudget(options.bodies_bytes_max, cast(asyncio.AbstractEventLoop, _AT_ONCE)),
    )
    connection.connection_made(_Transport())
    connection.send(cast(HttpAttempt, SimpleNamespace(head=b"", body=b"")))
    for at in range(0, len(raw), piece):
        if pool.outcome is not None:
            break
        connection.data_received(raw[at : at + piece])
    connection.connection_lost(None)
    return pool.outcome
