"""A bare ingress: each POST becomes a record of one topic, and is answered when Kafka has it.

No routing, no checks, no limits, no metrics, no deadlines. The libraries and their settings are
those of the ingress: uvloop, httptools, confluent-kafka.

    python -m bench.bare.ingress BOOTSTRAP_SERVERS TOPIC PORT
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop
from confluent_kafka import Producer

ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; requests are not pipelined."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._produce = producer.produce
        self._topic = topic
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[str, str | bytes | None]] = []
        self._key: bytes | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._headers, self._key, self._body = [], None, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Attributes become headers of the record."""
        lower = name.lower()
        if lower.startswith(b"ce-"):
            self._headers.append(("ce_" + lower[3:].decode(), value))
            if lower == b"ce-partitionkey":
                self._key = value
        elif lower == b"content-type":
            self._headers.append(("content-type", value))

    def on_body(self, body: bytes) -> None:
        """The data of the event, or a part of it."""
        self._body += body

    def on_message_complete(self) -> None:
        """Store the event."""
        self._produce(
            self._topic, self._body, self._key, headers=self._headers, on_delivery=self._stored
        )

    def _stored(self, error: object, message: object) -> None:
        assert error is None, error
        if not self._transport.is_closing():
            self._transport.write(ACCEPTED)


async def main(bootstrap_servers: str, topic: str, port: int) -> None:
    """Serve until the process is ended."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "max.in.flight.requests.per.connection": 1,
            "partitioner": "murmur2_random",
            "linger.ms": 1,
            "batch.size": 65_536,
            "log_level": 0,
        }
    )
    loop = asyncio.get_running_loop()

    def poll() -> None:
        producer.poll(0)
        loop.call_later(0.001, poll)

    poll()
    server = await loop.create_server(lambda: Connection(producer, topic), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
