"""Limits of requests in flight and of bodies that are being received, and cooperative scheduling of
long work. An ASGI middleware.

A body that does not arrive must not occupy the slot of a request, so the two are counted
separately: a request with a body takes its slot when the body is complete. A watch has a slot until
it has sent the initial objects.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_apiserver.filters import send_status
from headrace_apiserver.requests.options import asks_to_watch
from headrace_apiserver.statuses import StatusError, too_many_requests

IN_FLIGHT_MAX = 256
"""Requests in flight, including watches that send their initial objects; more get 429."""
PENDING_BODIES_MAX = 256
"""Bodies that are being received; one more aborts the oldest."""
PENDING_BODY_BYTES_MAX = 32 * 1024 * 1024
"""Bytes received of them in total."""
_PROBES = frozenset(("/healthz", "/livez", "/readyz"))
_SLOT = "headrace.request_slot"


class CooperativeScheduler:
    """Runs one part of long work per iteration of the event loop, in the order of the calls.
    Probes and connections are served in between.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run_next, loop)
        await turn

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                loop.call_soon(self._run_next, loop)
                return
        self._scheduled = False


class PendingBodies:
    """The bodies that are being received."""

    def __init__(
        self, *, number_max: int = PENDING_BODIES_MAX, bytes_max: int = PENDING_BODY_BYTES_MAX
    ) -> None:
        self._number_max = number_max
        self._bytes_max = bytes_max
        self._pending: OrderedDict[PendingBody, None] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._pending)

    def enter(self, body: "PendingBody") -> None:
        """Add a body. If there is one too many, the oldest is aborted, so that new clients are not
        locked out.
        """
        self._pending[body] = None
        self._evict_oldest()

    def grow(self, size: int) -> None:
        """Count received bytes; a negative size frees them."""
        self._size += size
        self._evict_oldest()

    def leave(self, body: "PendingBody") -> None:
        """Remove a body that is complete or aborted. Idempotent."""
        self._pending.pop(body, None)

    def stop(self) -> None:
        """Abort all of them: the server stops."""
        while self._pending:
            self._pending.popitem(last=False)[0].end()

    def _evict_oldest(self) -> None:
        while self._pending and (
            len(self._pending) > self._number_max or self._size > self._bytes_max
        ):
            oldest, _ = self._pending.popitem(last=False)
            oldest.end()


class RequestSlot:
    """The slot of one request among those in flight."""

    def __init__(self, in_flight: "InFlightRequests") -> None:
        self._in_flight = in_flight
        self._taken = False

    def acquire(self) -> None:
        """Take a slot. Raises StatusError 429 if there is none."""
        if not self._taken:
            self._in_flight.acquire()
            self._taken = True

    def release(self) -> None:
        """Release the slot. Idempotent."""
        if self._taken:
            self._in_flight.count -= 1
            self._taken = False

    async def wait_turn(self) -> None:
        """Wait until this request may continue its long work."""
        await self._in_flight.scheduler.wait()


class InFlightRequests:
    """The requests in flight of one application."""

    def __init__(
        self, *, limit: int = IN_FLIGHT_MAX, pending_bodies: PendingBodies | None = None
    ) -> None:
        self._limit = limit
        self.count = 0
        self.scheduler = CooperativeScheduler()
        self.pending_bodies = PendingBodies() if pending_bodies is None else pending_bodies

    def acquire(self) -> None:
        """Count one more. Raises StatusError 429."""
        if self.count >= self._limit:
            raise too_many_requests(f"{self._limit} requests are in flight; please try again later")
        self.count += 1


class PendingBody:
    """A body that is being received: the `receive` of its request."""

    def __init__(self, receive: Receive, slot: RequestSlot, pending_bodies: PendingBodies) -> None:
        self._receive = receive
        self._slot = slot
        self._pending_bodies = pending_bodies
        self._size = 0
        self._complete = False
        self._timeout: asyncio.Timeout | None = None
        self._ended = False

    def end(self) -> None:
        """Abort the body."""
        self._ended = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __call__(self) -> Message:
        """The next part. Raises StatusError 429 if the body was aborted, or if there is no slot for
        the request.
        """
        if self._complete:
            # The only message after the body is that the client has disconnected.
            return await self._receive()
        self._pending_bodies.enter(self)
        try:
            async with asyncio.timeout(None) as self._timeout:
                if self._ended:
                    self.end()
                message = await self._receive()
        except TimeoutError:
            if self._ended:
                raise _too_many_bodies() from None
            raise
        finally:
            self._timeout = None
            self._pending_bodies.leave(self)
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        self._pending_bodies.grow(len(message.get("body", b"")))
        if self._complete:
            await self._slot.wait_turn()
            self._slot.acquire()
        return message

    def forget(self) -> None:
        """Free the bytes: the request has ended."""
        self._pending_bodies.leave(self)
        self._pending_bodies.grow(-self._size)
        self._size = 0


class MaxInFlight:
    """Rejects requests above the limit, so that many requests at once cannot use up the memory, nor
    the time of the reconcile loop.
    """

    def __init__(self, app: ASGIApp, *, in_flight: InFlightRequests | None = None) -> None:
        self._app = app
        self._in_flight = in_flight or InFlightRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle or reject one request."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        slot = RequestSlot(self._in_flight)
        scope[_SLOT] = slot
        body = PendingBody(receive, slot, self._in_flight.pending_bodies)
        try:
            if scope["method"] != "GET":
                await self._app(scope, body, send)
                return
            # The slot is taken after the turn: a request that only waits is not in flight, else a
            # burst of fast requests would be rejected.
            await slot.wait_turn()
            if not _resumes_watch(scope):
                # Resumed watches have a limit of their own: they only work when something changes.
                slot.acquire()
            await self._app(scope, receive, send)
        except StatusError as error:
            await send_status(error, send)
        except ClientDisconnect:
            # The client disconnected within its body: no response can be sent.
            return
        finally:
            body.forget()
            slot.release()


def slot_of(scope: Mapping[str, Any]) -> RequestSlot:
    """The slot of the request with this ASGI scope."""
    found = scope.get(_SLOT)
    return found if isinstance(found, RequestSlot) else RequestSlot(InFlightRequests())


def _resumes_watch(scope: Scope) -> bool:
    if scope["method"] != "GET" or not scope["query_string"]:
        return False
    query = QueryParams(scope["query_string"])
    return (
        asks_to_watch(query)
        and query.get("resourceVersion", "") not in ("", "0")
        and "sendInitialEvents" not in query
    )


def _too_many_bodies() -> StatusError:
    return too_many_requests(
        "too many bodies are being received, and this one is the oldest; please try again later"
    )
