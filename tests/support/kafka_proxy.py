"""A proxy before the only broker that removes all brokers from metadata responses on request, or
does not answer commits of offsets.

A broker sends such responses itself while its cluster considers it dead (it was partitioned or
frozen, and has not sent a heartbeat since): topics without any broker to connect to. That state is
too short to be reproduced reliably; here it lasts as long as a test needs.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_METADATA, _OFFSET_COMMIT, _FIND_COORDINATOR = 3, 8, 10
_FLEXIBLE_METADATA = 9
"""From this version on arrays and strings have compact lengths. librdkafka uses a later one with a
current broker, aiokafka an older one.
"""
_THROTTLED_METADATA = 3
"""From this version on a response begins with a throttle time."""


class KafkaProxy:
    """Listens at `address` in front of the broker at `host:port`, which must be the only one of its
    cluster.
    """

    def __init__(self, broker: str) -> None:
        host, _, port = broker.partition(":")
        self._broker = (host, int(port))
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.brokerless = False
        """While True, responses contain no brokers."""
        self.hidden = 0
        """Number of such responses."""
        self.without_commits = False
        """While True, commits of offsets do not reach the broker and are not answered."""
        self.discarded = 0
        """Number of such commits."""
        self.accepted = 0
        """Number of connections of clients."""
        threading.Thread(target=self._accept, name="kafka proxy", daemon=True).start()

    @property
    def address(self) -> str:
        """Bootstrap servers for a client that must use the proxy."""
        return f"127.0.0.1:{self._port}"

    @property
    def _port(self) -> int:
        return int(self._door.getsockname()[1])

    def cut(self) -> None:
        """Close all connections; new ones are accepted."""
        cut, self._open = self._open, []
        for each in cut:
            _end(each)

    def close(self) -> None:
        """Close all connections and accept no more."""
        _end(self._door)
        self._door.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                self.accepted += 1
                broker = socket.create_connection(self._broker)
                self._open += [client, broker]
                asked: dict[int, tuple[int, int]] = {}
                threading.Thread(
                    target=self._forward, args=(client, broker, asked), daemon=True
                ).start()
                threading.Thread(
                    target=self._answer, args=(broker, client, asked), daemon=True
                ).start()

    def _forward(
        self, client: socket.socket, broker: socket.socket, asked: dict[int, tuple[int, int]]
    ) -> None:
        for request in _frames(client, broker):
            kind, version, correlation = struct.unpack_from(">hhi", request)
            if kind == _OFFSET_COMMIT and self.without_commits:
                self.discarded += 1
                continue
            if kind in (_METADATA, _FIND_COORDINATOR):
                asked[correlation] = (kind, version)
            _send(broker, request)

    def _answer(
        self, broker: socket.socket, client: socket.socket, asked: dict[int, tuple[int, int]]
    ) -> None:
        for answer in _frames(broker, client):
            kind, version = asked.pop(struct.unpack_from(">i", answer)[0], (None, 0))
            if kind == _METADATA:
                answer = (
                    self._metadata(answer)
                    if version >= _FLEXIBLE_METADATA
                    else self._older_metadata(answer, version)
                )
            elif kind == _FIND_COORDINATOR:
                # Small enough for the four bytes of the port to occur nowhere else.
                answer = answer.replace(
                    struct.pack(">i", self._broker[1]), struct.pack(">i", self._port)
                )
            _send(client, answer)

    def _older_metadata(self, answer: bytes, version: int) -> bytes:
        """As `_metadata`, where lengths have a fixed size."""
        start = 8 if version >= _THROTTLED_METADATA else 4
        (count,) = struct.unpack_from(">i", answer, start)
        at, brokers = start + 4, b""
        for _ in range(count):
            started = at
            (length,) = struct.unpack_from(">h", answer, at + 4)  # Node id, host.
            port = at + 6 + length
            (length,) = struct.unpack_from(">h", answer, port + 4)  # Rack, null or a string.
            at = port + 6 + max(length, 0)
            brokers += answer[started:port] + struct.pack(">i", self._port) + answer[port + 4 : at]
        if self.brokerless:
            self.hidden += 1
            return answer[:start] + struct.pack(">i", 0) + answer[at:]
        return answer[: start + 4] + brokers + answer[at:]

    def _metadata(self, answer: bytes) -> bytes:
        """The response with the proxy's port in place of the broker's, or without brokers."""
        start = 9  # Correlation id, tagged fields (none), throttle time.
        count, at = _uvarint(answer, start)
        brokers = b""
        for _ in range(count - 1):
            started = at
            length, at = _uvarint(answer, at + 4)  # Node id, host.
            at += length - 1
            port = at
            length, at = _uvarint(answer, at + 4)  # Rack, null or a string.
            _, at = _uvarint(answer, at + max(length - 1, 0))  # Tagged fields (none).
            brokers += answer[started:port] + struct.pack(">i", self._port) + answer[port + 4 : at]
        if self.brokerless:
            self.hidden += 1
            return answer[:start] + b"\x01" + answer[at:]
        return answer[:start] + bytes([count]) + brokers + answer[at:]


@contextlib.contextmanager
def kafka_proxy(broker: str) -> Iterator[KafkaProxy]:
    """A proxy, closed at the end."""
    proxy = KafkaProxy(broker)
    try:
        yield proxy
    finally:
        proxy.close()


def _uvarint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _frames(source: socket.socket, other: socket.socket) -> Iterator[bytes]:
    """Forward the messages of a connection until it ends; then close the other one."""
    with source, contextlib.suppress(OSError), source.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            size = struct.unpack(">i", head)[0]
            if len(body := stream.read(size)) < size:
                break
            yield body
    _end(other)


def _send(target: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):
        target.sendall(struct.pack(">i", len(message)) + message)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
