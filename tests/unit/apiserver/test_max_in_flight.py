"""Limits of requests in flight, of watches that send their initial objects, and of bodies that are
being received.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from headrace.resources.kinds import CONFIG_MAP
from headrace_apiserver.max_in_flight import (
    CooperativeScheduler,
    InFlightRequests,
    MaxInFlight,
    PendingBodies,
    PendingBody,
    RequestSlot,
)
from headrace_apiserver.statuses import StatusError
from headrace_apiserver.watch.cacher import Cacher, WatchRequest
from headrace_apiserver.watch.frames import PlainFraming
from tests.support.wait_until import wait_until, wait_until_async
from tests.unit.apiserver.running_api import ApiUnderTest, running_api
from tests.unit.apiserver.store_follower import StoreFollower

MAPS = "/api/v1/namespaces/default/configmaps"
ANSWER_SECONDS = 2.0


@pytest.fixture(scope="module")
def api() -> Iterator[ApiUnderTest]:
    """The API of a controller."""
    with running_api() as running:
        yield running


def _connected(api: ApiUnderTest, stack: ExitStack, text: bytes) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=10
    )
    stack.callback(connection.close)
    connection.sendall(text)
    return connection


class LimitedApplication:
    """An application behind MaxInFlight with two slots. Its requests end when a test says so."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.reached: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.work = InFlightRequests(limit=2)
        self._filter = MaxInFlight(self._application, in_flight=self.work)

    def __call__(self, path: str, query: bytes = b"", method: str = "GET") -> asyncio.Task[None]:
        scope = {"type": "http", "method": method, "path": path, "query_string": query}
        return asyncio.create_task(self._filter(scope, self._receive, self._send))

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            await receive()
        self.reached.append(scope["path"])
        await self.released.wait()

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    async def _receive(self) -> Any:
        return {"type": "http.request"}


async def test_requests_above_the_limit_are_rejected() -> None:
    """429 with Retry-After, except for resumed watches and probes. A slot is free again when a
    request ends.
    """
    ask = LimitedApplication()
    count = [
        ask("/a"),
        ask("/w", b"watch=true"),
        ask("/v", b"watch=True&resourceVersion=7"),
        ask("/readyz"),
    ]
    await wait_until_async(lambda: len(ask.reached) == 4, 5, "the requests in flight")
    rejected = [
        ask("/c"),
        ask("/d", b"watch=true", "POST"),
        ask("/e", b"watch=1"),
        ask("/f", b"watch=1&resourceVersion=0"),
    ]
    rejected.append(ask("/g", b"watch=1&resourceVersion=7&sendInitialEvents=true"))
    await asyncio.gather(*rejected)
    starts = [each for each in ask.messages if each["type"] == "http.response.start"]
    assert [429] * 5 == [each["status"] for each in starts]
    assert (b"retry-after", b"1") in starts[0]["headers"]
    assert {"/a", "/w", "/v", "/readyz"} == set(ask.reached)
    ask.released.set()
    await asyncio.gather(*count)
    await ask("/h")
    assert "/h" == ask.reached[-1]


async def test_a_watch_is_in_flight_until_it_has_sent_the_initial_objects() -> None:
    """Not while it waits for changes, nor if it starts with a resourceVersion."""
    followed = await StoreFollower().start()
    for number in range(3):
        await followed.make(f"m{number}")
    cacher = Cacher(lambda: followed.store.resource_version)
    cacher.start()
    work = InFlightRequests(limit=1)

    def opened(since: str | None) -> Any:
        slot = RequestSlot(work)
        slot.acquire()
        return cacher.open(
            WatchRequest(kind=CONFIG_MAP, since=since),
            PlainFraming(CONFIG_MAP, lambda document: document),
            lambda: followed.store.list(CONFIG_MAP),
            slot=slot,
        )

    watch = opened(None)
    assert 1 == work.count
    assert 3 == (await anext(watch)).count(b"ADDED")
    assert 0 == work.count
    resumed = opened(followed.store.resource_version)
    assert 0 == work.count
    closed = opened(None)
    for each in (watch, resumed, closed):
        each.close()
    assert 0 == work.count


async def test_one_part_of_work_runs_per_iteration_of_the_loop() -> None:
    """In the order of the calls; a cancelled one is skipped."""
    scheduler = CooperativeScheduler()
    order: list[int] = []
    iterations = 0
    ended = False

    def count() -> None:
        nonlocal iterations
        iterations += 1
        if not ended:
            asyncio.get_running_loop().call_soon(count)

    async def work(number: int) -> None:
        for _ in range(3):
            await scheduler.wait()
            order.append(number)

    count()
    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    cancelled = asyncio.create_task(scheduler.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(*tasks)
    ended = True
    assert [0, 1, 2, 3] * 3 == order
    assert iterations >= 12


def test_probes_are_answered_while_many_watches_start(api: ApiUnderTest) -> None:
    """Hundreds of watches send their initial objects at once, and `/readyz` responds in time."""
    for number in range(300):
        assert (
            201
            == api.call(
                "POST", MAPS, {"metadata": {"name": f"many-{number}"}, "data": {"a": "x" * 1_000}}
            )[0]
        )
    with ExitStack() as stack:
        for _ in range(250):
            _connected(
                api,
                stack,
                b"GET " + MAPS.encode() + b"?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
        probe = _connected(api, stack, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        probe.settimeout(ANSWER_SECONDS)
        assert probe.recv(100).startswith(b"HTTP/1.1 200")


def test_a_burst_of_fast_requests_is_served(api: ApiUnderTest) -> None:
    """More at once than may be in flight: each ends before the next starts."""
    with ExitStack() as stack:
        get = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for each in [_connected(api, stack, get) for _ in range(400)]:
            assert each.recv(100).startswith(b"HTTP/1.1 200")


def test_missing_bodies_do_not_lock_out_other_requests(api: ApiUnderTest) -> None:
    """Three hundred requests wait for their bodies. Others are served at once, with and without a
    body.
    """
    with ExitStack() as stack:
        head = (
            f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
            " application/json\r\nContent-Length: 100\r\n\r\n"
        )
        waiting = [_connected(api, stack, head.encode()) for _ in range(300)]
        # The kernel decides which of them comes first; 256 may wait.
        wait_until(lambda: len(_readable(waiting)) >= 40, 10, "the aborted bodies")
        assert 200 == api.call("GET", MAPS)[0]
        assert 201 == api.call("POST", MAPS, {"metadata": {"name": "in-between"}})[0]
        first = _readable(waiting)[0].recv(1_000)
        assert first.startswith(b"HTTP/1.1 429")
        assert b"this one is the oldest" in first
    wait_until(
        lambda: api.call("DELETE", f"{MAPS}/in-between")[0] == 200, 5, "the API to serve again"
    )


def _readable(connections: list[socket.socket]) -> list[socket.socket]:
    found = []
    for each in connections:
        each.setblocking(False)
        try:
            if each.recv(1, socket.MSG_PEEK):
                found.append(each)
        except BlockingIOError:
            continue
    return found


async def test_pending_bodies_are_limited_by_their_bytes() -> None:
    """The oldest is aborted, and its bytes are freed."""
    pending_bodies, work = PendingBodies(bytes_max=1_000), InFlightRequests()
    first_continues = asyncio.Event()

    async def empty_part() -> Any:
        await first_continues.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    def part(size: int) -> Any:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * size, "more_body": True}

        return receive

    first = PendingBody(empty_part, RequestSlot(work), pending_bodies)
    waiting = asyncio.create_task(first())
    await asyncio.sleep(0)
    second = PendingBody(part(600), RequestSlot(work), pending_bodies)
    await second()
    assert not waiting.done()
    await second()
    with pytest.raises(StatusError) as rejected:
        await waiting
    assert 429 == rejected.value.code
    second.forget()
    third = PendingBody(part(900), RequestSlot(work), pending_bodies)
    await third()
    assert 0 == len(pending_bodies)


def test_stopping_does_not_wait_for_bodies(caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops aborts them and logs no traceback."""
    head = (
        f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        " application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with ExitStack() as stack:
        with running_api() as api:
            waiting = _connected(api, stack, head.encode())
            assert 200 == api.call("GET", MAPS)[0]
        assert waiting.recv(100).startswith(b"HTTP/1.1 429")
    assert "ASGI" not in caplog.text


@pytest.mark.parametrize("path", [MAPS, "/apis/authentication.k8s.io/v1/selfsubjectreviews"])
def test_a_client_that_disconnects_during_its_body_is_not_logged(
    api: ApiUnderTest,
    path: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """There is no response, because the client is gone, and no log line, because nothing failed."""
    caplog.set_level(logging.WARNING)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        " application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with ExitStack() as stack:
        for _ in range(3):
            _connected(api, stack, head.encode())
        assert 200 == api.call("GET", MAPS)[0]
    assert 200 == api.call("GET", MAPS)[0]
    code, _ = api.call("POST", MAPS, {"metadata": {"name": "afterwards"}})
    assert code in (201, 409)
    logged = capsys.readouterr().out + "".join(record.getMessage() for record in caplog.records)
    assert "request_failed" not in logged
    assert "internal error" not in logged.lower()
    assert "ASGI" not in logged
