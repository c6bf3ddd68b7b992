"""The output of the event viewer, and that it cannot control a terminal."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
import urllib3
from rich.console import Console

from headrace_cli.event_viewer import EventViewer
from headrace_cli.terminal import DATA_CHARACTERS_MAX

HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/test",
    "ce-type": "order.created",
    "content-type": "application/json",
}


class Watched:
    """A viewer on a free port, and its output."""

    def __init__(self) -> None:
        self.screen = io.StringIO()
        self.seen: list[tuple[str, str]] = []
        console = Console(file=self.screen, width=400, soft_wrap=True)
        self.viewer = EventViewer(
            console, port=0, shown=lambda path, event_id: self.seen.append((path, event_id))
        )

    async def post(
        self,
        body: bytes,
        headers: dict[str, str],
        *,
        method: str = "POST",
        path: str = "/orders?x=1",
    ) -> int:
        """Send a request; return the status of the response."""

        def send() -> int:
            with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
                return pool.request(
                    method, f"http://127.0.0.1:{self.viewer.port}{path}", body=body, headers=headers
                ).status

        return await asyncio.to_thread(send)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    """A started viewer."""
    made = Watched()
    await made.viewer.start()
    yield made
    await made.viewer.stop()


async def test_an_event_is_shown_with_its_attributes_and_data(watched: Watched) -> None:
    """Path, type, source, id, extensions and data are shown, but not the request headers."""
    assert 200 == await watched.post(
        b'{"a":  1}', {**HEADERS, "ce-amount": "20", "authorization": "Bearer s3cret"}
    )
    printed = watched.screen.getvalue()
    for text in ("/orders", "order.created", "from /test, id 1", "amount=20", '{"a": 1}'):
        assert text in printed
    assert "s3cret" not in printed
    assert [("/orders", "1")] == watched.seen


async def test_control_characters_do_not_reach_the_terminal(watched: Watched) -> None:
    """An event may come from any client."""
    assert 200 == await watched.post(
        b"\x1b]0;owned\x07\x1b[2J", {**HEADERS, "content-type": "text/plain"}
    )
    printed = watched.screen.getvalue()
    assert "\x1b" not in printed
    assert "\\x1b[2J" in printed


async def test_data_is_cut_and_binary_is_counted(watched: Watched) -> None:
    """A megabyte of data would fill the terminal."""
    assert 200 == await watched.post(b"x" * 100_000, {**HEADERS, "content-type": "text/plain"})
    assert 200 == await watched.post(b"\xff\xfe", {**HEADERS, "content-type": "image/png"})
    printed = watched.screen.getvalue()
    assert "x" * DATA_CHARACTERS_MAX + "… (100000 characters)" in printed
    assert "2 bytes of image/png" in printed


async def test_what_is_no_event_is_refused_and_said(watched: Watched) -> None:
    """Both the response and the output say what is missing."""
    assert 400 == await watched.post(b"x", {"content-type": "text/plain"})
    assert 405 == await watched.post(b"", {}, method="GET")
    assert "not an event" in watched.screen.getvalue()
    assert [] == watched.seen
