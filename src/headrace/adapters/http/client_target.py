"""A target URL with its connection pool: assigns connections to requests and handles requests whose
connection fails.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from headrace.adapters.http.client_attempt import HttpAttempt, OnOutcome
from headrace.adapters.http.client_body_budget import BodyBudget
from headrace.adapters.http.client_connection import ClientConnection
from headrace.adapters.http.client_deadlines import Deadlines
from headrace.adapters.http.client_dialer import Dialer, DialFailed
from headrace.adapters.http.client_options import ClientCounts, ClientOptions
from headrace.domain.delivery import Failure, Outcome
from headrace.domain.target_url import TargetUrl


class HttpTarget:
    """A connection pool for one URL; implements `headrace.domain.ports.Target`.

    The most recently used connection is taken first, so that connections the load does not need
    become idle for long enough to be closed.
    """

    def __init__(
        self,
        url: TargetUrl,
        *,
        connections_max: int,
        dialer: Dialer,
        deadlines: Deadlines,
        options: ClientOptions,
        counts: ClientCounts,
        body_budget: BodyBudget,
        reply_bytes_max: Callable[[], int] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        if connections_max < 1:
            raise ValueError(f"connections_max is {connections_max}, at least 1 is needed")
        self.deadlines = deadlines
        self.last_response = b""
        """As `ConnectionOwner.last_response`."""
        self.last_outcome = Outcome()
        """As `ConnectionOwner.last_outcome`."""
        self._url = url
        self._connections_max = connections_max
        self._dialer = dialer
        self._options = options
        self._counts = counts
        self._body_budget = body_budget
        self._reply_bytes_max = reply_bytes_max
        self._loop = loop
        self._prefix = _prefix(url, options.user_agent)
        self._open: set[ClientConnection] = set()
        self._idle: list[ClientConnection] = []
        self._waiting: OrderedDict[HttpAttempt, None] = OrderedDict()
        self._dialing: set[asyncio.Task[ClientConnection]] = set()
        self._closed = False

    def __repr__(self) -> str:
        busy = len(self._open) - len(self._idle)
        state = (
            f"{busy} busy, {len(self._idle)} idle, {len(self._dialing)} opening,"
            f" {len(self._waiting)} waiting"
        )
        origin = f"{self._url.scheme}://{self._url.authority}"
        return f"<HttpTarget {origin}{' closed' if self._closed else ''}: {state}>"

    @property
    def denied(self) -> str:
        """The reason why the address policy denies this target; see
        `headrace.domain.ports.Target.denied`.
        """
        return self._dialer.denied

    async def check_policy(self) -> None:
        """Check the address policy before the first event is posted."""
        await self._dialer.check_policy()

    @property
    def finished(self) -> bool:
        """Whether the target is closed and has no connections or requests left."""
        return self._closed and not self._open and not self._waiting and not self._dialing

    def post(
        self, headers: bytes, body: bytes, *, timeout_seconds: float, answered: OnOutcome
    ) -> HttpAttempt:
        """Send one POST; see `headrace.domain.ports.Target.post`."""
        now = self._loop.time()
        head = b"".join((self._prefix, b"%d\r\n" % len(body), headers, b"\r\n"))
        attempt = HttpAttempt(self, head, body, timeout_seconds, answered, self.deadlines, now)
        # `find`, because `in` first tries to use the bytes as a number, which takes 0.3 us.
        if headers.find(b"\n\r") >= 0 or (headers and headers[-2:] != b"\r\n"):
            # The last check before the request is written: with an empty line in its headers, an
            # event could end its own request and start another one (request smuggling).
            self._refuse(
                attempt, Failure.PROTOCOL, "the request's header lines are not complete lines"
            )
        elif self._closed:
            self._refuse(attempt, Failure.CONNECT, "the target was closed")
        elif (connection := self._pick(now)) is not None:
            attempt.connection = connection
            connection.send(attempt)
        elif len(self._waiting) >= self._options.waiting_max:
            self._refuse(
                attempt,
                Failure.CONNECT,
                f"{self._options.waiting_max} requests wait for a connection already",
            )
        else:
            self._waiting[attempt] = None
            self._dial()
        return attempt

    def close(self) -> None:
        """Close idle connections now and busy ones after their response. Requests that wait for a
        connection are still sent.
        """
        self._closed = True
        for connection in self._idle:
            self._open.discard(connection)
            connection.close()
        self._idle.clear()

    async def stop(self) -> None:
        """Close the target and abort its requests. Their outcomes are not reported."""
        self.close()
        for attempt in list(self._waiting):
            self.abandon(attempt)
        for connection in list(self._open):
            if connection.attempt is not None:
                connection.attempt.end()
            connection.abort()
        self._open.clear()
        for task in self._dialing:
            task.cancel()
        if self._dialing:
            await asyncio.wait(self._dialing, timeout=self._options.connect_seconds)

    def close_unused(self, now: float) -> int:
        """Close connections that were idle for too long. Return the number of idle ones left."""
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.fresh_until > now:
                self._idle.append(connection)
            else:
                self._open.discard(connection)
                connection.close()
        return len(self._idle)

    def abandon(self, attempt: HttpAttempt) -> None:
        """Drop an attempt whose caller no longer wants the outcome."""
        self._drop(attempt)
        attempt.end()
        self._dial()

    def expire(self, attempt: HttpAttempt) -> None:
        """End an attempt whose deadline has passed, with a timeout as its outcome."""
        self._counts.timeouts += 1
        connection = attempt.connection
        where = connection.progress if connection is not None else "no connection"
        self._drop(attempt)
        attempt.complete(
            Outcome(failure=Failure.TIMEOUT, detail=f"{where} within {attempt.timeout_seconds:g} s")
        )
        self._dial()

    def _drop(self, attempt: HttpAttempt) -> None:
        self._waiting.pop(attempt, None)
        if attempt.connection is not None:
            attempt.connection.drop()

    def _refuse(self, attempt: HttpAttempt, failure: Failure, detail: str) -> None:
        self._loop.call_soon(attempt.complete, Outcome(failure=failure, detail=detail))

    def _pick(self, now: float) -> ClientConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.fresh_until > now:
                return connection
            self._open.discard(connection)
            connection.close()
        return None

    def _dial(self) -> None:
        """Open one connection for each waiting request, up to `connections_max`."""
        while (
            len(self._dialing) < len(self._waiting)
            and len(self._open) + len(self._dialing) < self._connections_max
        ):
            task = self._loop.create_task(self._dialer.dial(self._make))
            self._dialing.add(task)
            task.add_done_callback(self._dialed)

    def _dialed(self, task: asyncio.Task[ClientConnection]) -> None:
        self._dialing.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._counts.connections_opened += 1
            self._opened(task.result())
            return
        self._counts.connections_failed += 1
        # This connection was for the request that has waited longest. Each other request has
        # its own dial in progress, or one is started now.
        if self._waiting:
            outcome = (
                error.outcome
                if isinstance(error, DialFailed)
                else Outcome(failure=Failure.CONNECT, detail=f"unexpected: {error!r}")
            )
            self._waiting.popitem(last=False)[0].complete(outcome)
        self._dial()

    def _opened(self, connection: ClientConnection) -> None:
        if connection.ended:
            self._dial()
            return
        now = self._loop.time()
        connection.expires_at = now + self._options.age_seconds
        self._open.add(connection)
        self._release(connection, now)
        self.deadlines.wake()

    def _make(self) -> ClientConnection:
        return ClientConnection(self, self._options, self._body_budget)

    def _release(self, connection: ClientConnection, now: float) -> None:
        """Assign a free connection to the attempt that has waited longest. If none waits, keep
        the connection idle, or close it if the target is closed.
        """
        if self._waiting:
            attempt, _ = self._waiting.popitem(last=False)
            attempt.connection = connection
            attempt.sent_at = now
            connection.send(attempt)
        elif self._closed:
            self._open.discard(connection)
            connection.close()
        else:
            connection.fresh_until = min(now + self._options.idle_seconds, connection.expires_at)
            self._idle.append(connection)

    # Connections call the following methods.

    def answered(
        self, connection: ClientConnection, attempt: HttpAttempt, outcome: Outcome, reusable: bool
    ) -> None:
        """Report the outcome of an attempt and reuse or close its connection."""
        now = self._loop.time()
        if reusable and connection.expires_at > now:
            self._release(connection, now)
        else:
            self._open.discard(connection)
            connection.close()
            self._dial()
        attempt.complete(outcome)

    def broken(
        self,
        connection: ClientConnection,
        attempt: HttpAttempt,
        outcome: Outcome,
        *,
        untouched: bool,
    ) -> None:
        """Handle a connection that was lost during an attempt: send the request again or report it.

        A peer may close an idle connection at the moment a request is written to it. The request is
        then sent once more, immediately, on a new connection. RFC 9110 (9.2.2) permits this for a
        client that knows that repeating the request is safe, as it is with at-least-once delivery.
        It is unknown whether the peer read the request before it closed the connection, so a
        duplicate is possible; it is allowed and counted.

        Only a failure right after the write is treated as this race. A later failure is reported as
        a failure of the subscriber, and the retry policy applies.
        """
        self._open.discard(connection)
        at_once = self._loop.time() - attempt.sent_at <= self._options.stale_seconds
        if untouched and at_once and connection.uses > 1 and not attempt.repeated:
            self._counts.stale_retries += 1
            attempt.repeated = True
            attempt.connection = None
            self._waiting[attempt] = None
            self._waiting.move_to_end(attempt, last=False)
            # Other idle connections are as old and may be closed too, so open a new one.
            self._dial()
            return
        self._dial()
        attempt.complete(outcome)

    def unusable(self, connection: ClientConnection) -> None:
        """Remove a connection that has ended, so that no request is assigned to it."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def reply_bytes_max(self) -> int:
        """Return the maximum size in bytes of a reply event, or 0 if no reply is expected."""
        return self._reply_bytes_max() if self._reply_bytes_max is not None else 0

    def on_surplus(self) -> None:
        """Count a peer that sent bytes that belong to no request."""
        self._counts.surplus += 1


def _prefix(url: TargetUrl, user_agent: str) -> bytes:
    lines = (
        f"POST {url.path} HTTP/1.1",
        f"host: {url.authority}",
        f"user-agent: {user_agent}",
        # A compressed response could expand to any size.
        "accept-encoding: identity",
        "content-length: ",
    )
    return "\r\n".join(lines).encode("ascii")
