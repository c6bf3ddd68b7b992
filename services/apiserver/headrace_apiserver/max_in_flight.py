"""Requests at work and bodies on their way: each has a bound of its own, and long work gives
everybody else their turn. ASGI.

A body that does not come must not take the place of a request that is worked on, so the two are
counted apart: a request that has a body takes its place when the body is there. A watch has one
until it has shown what there is.
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
"""Requests at work at once, and watches that show what there is; more are told to come again."""
PENDING_BODIES_MAX = 256
"""Bodies on their way at once; one more ends the one that has been on its way longest."""
PENDING_BODY_BYTES_MAX = 32 * 1024 * 1024
"""What has come of them, together."""
_PROBES = frozenset(("/healthz", "/livez", "/readyz"))
_SLOT = "headrace.request_slot"


class CooperativeScheduler:
    """Lets one part of long work run in each turn of the loop, in the order of asking, so that
    probes and connections come in between.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def wait(self) -> None:
        """Return when it is this caller's turn."""
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
    """The bodies on their way."""

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
        """A body begins to arrive. One too many ends the longest on its way, so that newcomers are
        not shut out.
        """
        self._pending[body] = None
        self._evict_oldest()

    def grow(self, size: int) -> None:
        """So many bytes have come, or are of no concern any more."""
        self._size += size
        self._evict_oldest()

    def leave(self, body: "PendingBody") -> None:
        """It is there, or comes no more. Idempotent."""
        self._pending.pop(body, None)

    def stop(self) -> None:
        """Wait for none of them any longer: the server stops."""
        while self._pending:
            self._pending.popitem(last=False)[0].end()

    def _evict_oldest(self) -> None:
        while self._pending and (
            len(self._pending) > self._number_max or self._size > self._bytes_max
        ):
            longest, _ = self._pending.popitem(last=False)
            longest.end()


class RequestSlot:
    """The place of one request among those at work."""

    def __init__(self, in_flight: "InFlightRequests") -> None:
        self._in_flight = in_flight
        self._taken = False

    def acquire(self) -> None:
        """Take one. Raises StatusError 429 when there is none."""
        if not self._taken:
            self._in_flight.acquire()
            self._taken = True

    def release(self) -> None:
        """Give it up. Idempotent."""
        if self._taken:
            self._in_flight.count -= 1
            self._taken = False

    async def wait_turn(self) -> None:
        """Wait for this request's turn to go on with long work."""
        await self._in_flight.scheduler.wait()


class InFlightRequests:
    """The requests at work of one application."""

    def __init__(
        self, *, limit: int = IN_FLIGHT_MAX, pending_bodies: PendingBodies | None = None
    ) -> None:
        self._limit = limit
        self.count = 0
        self.scheduler = CooperativeScheduler()
        self.pending_bodies = PendingBodies() if pending_bodies is None else pending_bodies

    def acquire(self) -> None:
        """One more. Raises StatusError 429."""
        if self.count >= self._limit:
            raise too_many_requests(f"{self._limit} requests are at work; please try again later")
        self.count += 1


class PendingBody:
    """A body on its way: the `receive` of its request."""

    def __init__(self, receive: Receive, slot: RequestSlot, pending_bodies: PendingBodies) -> None:
        self._receive = receive
        self._slot = slot
        self._pending_bodies = pending_bodies
        self._size = 0
        self._complete = False
        self._timeout: asyncio.Timeout | None = None
        self._ended = False

    def end(self) -> None:
        """Wait for it no longer."""
        self._ended = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __call__(self) -> Message:
        """The next part; 429 as StatusError when others need its place, or there is none for the
        request.
        """
        if self._complete:
            # What comes now is only that the client has gone.
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
        """The request is over."""
        self._pending_bodies.leave(self)
        self._pending_bodies.grow(-self._size)
        self._size = 0


class MaxInFlight:
    """Refuses requests beyond a number at work at once, so that a flood of them costs neither
    memory nor the reconcile loop its turns.
    """

    def __init__(self, app: ASGIApp, *, in_flight: InFlightRequests | None = None) -> None:
        self._app = app
        self._in_flight = in_flight or InFlightRequests()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
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
            # The place after the turn: who waits for its turn is not at work, or a crowd of quick
            # requests would be refused.
            await slot.wait_turn()
            if not _resumes_watch(scope):
                # Bounded elsewhere: a watch that goes on is at work only when something happens.
                slot.acquire()
            await self._app(scope, receive, send)
        except StatusError as error:
            await send_status(error, send)
        except ClientDisconnect:
            # In the middle of its body: there is nobody to answer, and nothing is wrong here.
            return
        finally:
            body.forget()
            slot.release()


def slot_of(scope: Mapping[str, Any]) -> RequestSlot:
    """The place of the request with this scope."""
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
        "others need its place, and this body has been on its way for longest; please try again"
        " later"
    )
