"""A bare dispatcher: posts each record of one topic to one URL, and commits what was answered.

No filter, no retries, no checks of the answer, no metrics, no deadlines. The libraries and their
settings are those of the dispatcher: uvloop, httptools, confluent-kafka.

    python -m bench.bare.dispatcher BOOTSTRAP_SERVERS TOPIC GROUP PORT
"""

import asyncio
import sys
import threading
import time
from collections import deque
from typing import cast

import httptools
import uvloop
from confluent_kafka import Consumer, Message, TopicPartition

CONNECTIONS = 128
RECORDS = 256
COMMIT_SECONDS = 0.1


class Dispatcher:
    """The records that wait for a connection, and how far each partition is done.

    Answers come in another order than requests, so a partition is done up to its oldest record
    without an answer.
    """

    def __init__(self, consumer: Consumer, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        self._consumer, self._topic, self._loop = consumer, topic, loop
        self.waiting: deque[Message] = deque()
        self.idle: list[Connection] = []
        self._open: dict[int, dict[int, None]] = {}
        self._next: dict[int, int] = {}
        self._room = threading.Semaphore(2 * RECORDS)
        self._commit: dict[int, int] = {}
        self._committed_at = 0.0

    def read(self) -> None:
        """Read records, in a thread of its own."""
        while True:
            first = self._consumer.poll(0.05)
            records = [first, *self._consumer.consume(RECORDS, 0)] if first is not None else []
            for _ in records:
                self._room.acquire()
            if records:
                self._loop.call_soon_threadsafe(self.take, records)
            if self._commit and time.monotonic() > self._committed_at + COMMIT_SECONDS:
                done, self._commit = self._commit, {}
                self._committed_at = time.monotonic()
                self._consumer.commit(
                    offsets=[TopicPartition(self._topic, *each) for each in done.items()],
                    asynchronous=True,
                )

    def take(self, records: list[Message]) -> None:
        """Give records to idle connections."""
        for record in records:
            assert record.error() is None, record.error()
            self._open.setdefault(record.partition() or 0, {})[record.offset() or 0] = None
        self.waiting.extend(records)
        while self.waiting and self.idle:
            self.idle.pop().post(self.waiting.popleft())

    def done(self, connection: "Connection", record: Message) -> None:
        """An answer has come."""
        partition, offset = record.partition() or 0, record.offset() or 0
        open_records = self._open[partition]
        del open_records[offset]
        self._next[partition] = max(self._next.get(partition, 0), offset + 1)
        self._commit[partition] = next(iter(open_records), self._next[partition])
        self._room.release()
        if self.waiting:
            connection.post(self.waiting.popleft())
        else:
            self.idle.append(connection)


class Connection(asyncio.Protocol):
    """One connection to the subscriber."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._parser = httptools.HttpResponseParser(self)
        self._record: Message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The subscriber has accepted."""
        self._transport = cast(asyncio.Transport, transport)
        self._dispatcher.idle.append(self)
        self._dispatcher.take([])

    def post(self, record: Message) -> None:
        """Send a record."""
        self._record = record
        body = record.value() or b""
        headers = cast(list[tuple[str, bytes]], record.headers())
        lines = b"".join(
            b"%b: %b\r\n" % (name.replace("ce_", "ce-", 1).encode(), value)
            for name, value in headers
        )
        head = b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n" % len(body)
        self._transport.write(b"%b%b\r\n%b" % (head, lines, body))

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """The answer is complete."""
        self._dispatcher.done(self, self._record)


async def main(bootstrap_servers: str, topic: str, group: str, port: int) -> None:
    """Deliver until the process is ended."""
    loop = asyncio.get_running_loop()
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    dispatcher = Dispatcher(consumer, topic, loop)
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Connection(dispatcher), "127.0.0.1", port)
    threading.Thread(target=dispatcher.read, daemon=True).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
