"""What Camel posts, as events."""

import asyncio
from urllib.parse import urlsplit

import pytest

from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.event import InvalidEvent
from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.adapters.camel.endpoint import SinkEndpoint, read_events
from tests.support.sources import RecordingEmit

CONFIG = CamelConfig(source="/here", uri="timer:x")
NOW = 1_700_000_000.25


def read(body: bytes = b"", **headers: str) -> list[dict[str, object]]:
    """The attributes of the events in a request; `_` in names of headers is a hyphen."""
    given = [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
    found = read_events([*given, ("headrace-exchange", b"E-1")], body, CONFIG, NOW)
    return [{**event.attributes, "data": event.data} for event in found]


def test_a_message_gets_the_attributes_of_the_source() -> None:
    """And none for what it does not have."""
    assert read() == [
        {
            "specversion": "1.0",
            "id": "E-1",
            "type": "org.apache.camel.event",
            "source": "/here",
            "time": "2023-11-14T22:13:20.250Z",
            "data": None,
        }
    ]


def test_headers_of_the_route_are_attributes() -> None:
    """Others are not."""
    (event,) = read(b"x", ce_id="7", ce_subject="s", content_type="text/plain", x_token="t")
    assert (event["id"], event["subject"], event["datacontenttype"]) == ("7", "s", "text/plain")
    assert event["data"] == b"x"
    assert "x_token" not in event


def test_events_pass_unchanged() -> None:
    """One, and a batch of them."""
    text = b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}'
    own = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": None}
    assert read(text, content_type="application/cloudevents+json") == [own]
    batch = b"[" + text + b"]"
    assert read(batch, content_type="application/cloudevents-batch+json") == [own]


def test_an_invalid_attribute_is_named() -> None:
    """The exchange fails."""
    with pytest.raises(InvalidEvent, match="time"):
        read(ce_time="yesterday")


async def post(url: str, path: str | None = None) -> str:
    """Post to the endpoint; return the status line."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"POST {path or parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 0\r\n"
    writer.write(f"{head}headrace-exchange: E-1\r\n\r\n".encode())
    line = (await asyncio.wait_for(reader.readline(), 10)).decode()
    writer.close()
    return line.split(" ", 1)[1].strip()


async def test_the_answer_is_that_of_the_sink() -> None:
    """Without the path there is none."""
    emit = RecordingEmit()
    endpoint = SinkEndpoint(CONFIG, MemoryClock(), emit, lambda: None)
    async with endpoint.listening() as url:
        assert await post(url) == "204 No Content"
        emit.refuse = 1
        assert (await post(url)).startswith("503")
        assert (await post(url, "/")).startswith("404")
        emit.gate.clear()
        waiting = asyncio.create_task(post(url))
        await emit.wait_for_attempts(3)
        assert not waiting.done()
        emit.gate.set()
        assert await waiting == "204 No Content"
    assert len(emit.events) == 2
    with pytest.raises(OSError):
        await post(url)
