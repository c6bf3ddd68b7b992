"""Requests at work, watches that show what there is, and bodies on their way: each within its own
bound.
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
    """A controller's API."""
    with running_api() as running:
        yield running


def _connected(api: ApiUnderTest, stack: ExitStack, text: bytes) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=10
    )
    stack.callback(connection.close)
    connection.sendall(text)
    return connection


class Asked:
    """Requests to a guard of two places, whose application goes on when a test says so."""

    def __init__(self) -> None:
        self.going_on = asyncio.Event()
        self.reached: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.work = InFlightRequests(limit=2)
        self._guard = MaxInFlight(self._application, in_flight=self.work)

    def __call__(self, path: str, query: bytes = b"", method: str = "GET") -> asyncio.Task[None]:
        scope = {"type": "http", "method": method, "path": path, "query_string": query}
        return asyncio.create_task(self._guard(scope, self._receive, self._send))

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "GET":
            await receive()
        self.reached.append(scope["path"])
        await self.going_on.wait()

    async def _send(self, message: Any) -> None:
        self.answers.append(message)

    async def _receive(self) -> Any:
        return {"type": "http.request"}


async def test_requests_beyond_the_limit_are_told_to_come_again() -> None:
    """429 with Retry-After, while watches that go on and probes go through; room comes back when a
    request ends.
    """
    ask = Asked()
    count = [
        ask("/a"),
        ask("/w", b"watch=true"),
        ask("/v", b"watch=True&resourceVersion=7"),
        ask("/readyz"),
    ]
    await wait_until_async(lambda: len(ask.reached) == 4, 5, "the requests at work")
    refused = [
        ask("/c"),
        ask("/d", b"watch=true", "POST"),
        ask("/e", b"watch=1"),
        ask("/f", b"watch=1&resourceVersion=0"),
    ]
    refused.append(ask("/g", b"watch=1&resourceVersion=7&sendInitialEvents=true"))
    await asyncio.gather(*refused)
    starts = [each for each in ask.answers if each["type"] == "http.response.start"]
    assert [429] * 5 == [each["status"] for each in starts]
    assert (b"retry-after", b"1") in starts[0]["headers"]
    assert {"/a", "/w", "/v", "/readyz"} == set(ask.reached)
    ask.going_on.set()
    await asyncio.gather(*count)
    await ask("/h")
    assert "/h" == ask.reached[-1]


async def test_a_watch_is_at_work_until_it_has_shown_what_there_is() -> None:
    """And not while it waits for changes, or when it begins with none."""
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
    gone = opened(None)
    for each in (watch, resumed, gone):
        each.close()
    assert 0 == work.count


async def test_work_leaves_turns_to_others() -> None:
    """One part of one request in each turn of the loop; who has gone is passed over."""
    turns = CooperativeScheduler()
    order: list[int] = []
    loop_turns = 0
    ended = False

    def count() -> None:
        nonlocal loop_turns
        loop_turns += 1
        if not ended:
            asyncio.get_running_loop().call_soon(count)

    async def work(number: int) -> None:
        for _ in range(3):
            await turns.wait()
            order.append(number)

    count()
    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    gone = asyncio.create_task(turns.wait())
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(*tasks)
    ended = True
    assert [0, 1, 2, 3] * 3 == order
    assert loop_turns >= 12


def test_watches_of_many_objects_leave_the_probes_their_turn(api: ApiUnderTest) -> None:
    """Hundreds that want everything at once: `/readyz` is answered meanwhile."""
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


def test_a_crowd_of_quick_requests_is_answered(api: ApiUnderTest) -> None:
    """More at once than may be at work: each is done before the next begins."""
    with ExitStack() as stack:
        get = b"GET /api/v1/namespaces/default HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for each in [_connected(api, stack, get) for _ in range(400)]:
            assert each.recv(100).startswith(b"HTTP/1.1 200")


def test_bodies_that_never_come_shut_nobody_out(api: ApiUnderTest) -> None:
    """Three hundred requests wait for theirs; others are answered at once, those with a
    body too.
    """
    with ExitStack() as stack:
        head = (
            f"POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
            " application/json\r\nContent-Length: 100\r\n\r\n"
        )
        waiting = [_connected(api, stack, head.encode()) for _ in range(300)]
        # Which of them comes first is the kernel's choice; 256 may wait.
        wait_until(lambda: len(_readable(waiting)) >= 40, 10, "some to be told to come again")
        assert 200 == api.call("GET", MAPS)[0]
        assert 201 == api.call("POST", MAPS, {"metadata": {"name": "in-between"}})[0]
        first = _readable(waiting)[0].recv(1_000)
        assert first.startswith(b"HTTP/1.1 429")
        assert b"on its way for longest" in first
    wait_until(lambda: api.call("DELETE", f"{MAPS}/in-between")[0] == 200, 5, "the API to go on")


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


async def test_bodies_on_their_way_are_bounded_by_their_bytes() -> None:
    """The longest on its way goes, and its bytes are free again."""
    pending_bodies, work = PendingBodies(bytes_max=1_000), InFlightRequests()
    first_goes_on = asyncio.Event()

    async def begun() -> Any:
        await first_goes_on.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    def part(size: int) -> Any:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * size, "more_body": True}

        return receive

    first = PendingBody(begun, RequestSlot(work), pending_bodies)
    waiting = asyncio.create_task(first())
    await asyncio.sleep(0)
    second = PendingBody(part(600), RequestSlot(work), pending_bodies)
    await second()
    assert not waiting.done()
    await second()
    with pytest.raises(StatusError) as refused:
        await waiting
    assert 429 == refused.value.code
    second.forget()
    third = PendingBody(part(900), RequestSlot(work), pending_bodies)
    await third()
    assert 0 == len(pending_bodies)


def test_the_end_does_not_wait_for_bodies(caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops ends them, and logs no traceback for them."""
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
def test_a_client_that_hangs_up_during_its_body_leaves_no_trace(
    api: ApiUnderTest,
    path: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is answered, since nobody is there, and nothing is logged, since nothing is wrong."""
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
    assert "mistake" not in logged
    assert "internal error" not in logged.lower()
    assert "ASGI" not in logged
