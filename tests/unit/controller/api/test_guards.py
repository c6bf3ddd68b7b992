"""What stands before the application: hosts that are not ours, and more requests than are worked on at once."""

import asyncio
from typing import Any

import pytest

from headrace_controller.api.guards import Busy, is_loopback


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8001", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8001", True),
        ("", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example:8001", False),
        ("localhost.evil.example", False),
        ("0.0.0.0:8001", False),
    ],
)
def test_only_loopback_names_are_ours(host: str, ours: bool) -> None:
    """With a port or without; a name that only begins like ours is not."""
    assert ours is is_loopback(host)


async def test_requests_beyond_the_limit_are_told_to_come_again() -> None:
    """429 with Retry-After, while watches and probes go through; room comes back when a request ends."""
    going_on = asyncio.Event()
    reached: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await going_on.wait()

    guard = Busy(application, limit=2)
    answers: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    def ask(path: str, query: bytes = b"", method: str = "GET") -> asyncio.Task[None]:
        scope = {"type": "http", "method": method, "path": path, "query_string": query}
        return asyncio.create_task(guard(scope, receive, send))

    working = [ask("/a"), ask("/b"), ask("/w", b"limit=1&watch=true"), ask("/p", b"watch=True"), ask("/e", b"watch="), ask("/readyz")]
    await asyncio.sleep(0)
    await ask("/c")
    await ask("/d", b"watch=true", "POST")
    await ask("/f", b"watch=true&watch=false")
    starts = [each for each in answers if each["type"] == "http.response.start"]
    assert [429, 429, 429] == [each["status"] for each in starts]
    assert (b"retry-after", b"1") in starts[0]["headers"]
    assert ["/a", "/b", "/w", "/p", "/e", "/readyz"] == reached
    going_on.set()
    await asyncio.gather(*working)
    await ask("/g")
    assert "/g" == reached[-1]
