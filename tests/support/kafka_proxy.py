"""A broker that can be made to name no brokers: a proxy before the one real broker that rewrites
its answers.

A broker does so itself while its cluster holds it for dead (it was cut off, or stood still, and has
not been heard of again): it names topics, and nobody to ask about them. That moment is too short to
be met on purpose; here it lasts as long as a test likes.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_METADATA, _FIND_COORDINATOR = 3, 10
_FLEXIBLE_METADATA = 9
"""From this version on arrays and strings have compact lengths; the client asks for no older one of
a broker of these days.
"""


class KafkaProxy:
    """Stands at `address` before the broker at `host:port`, which must be the only one of its
    cluster.
    """

    def __init__(self, broker: str) -> None:
        host, _, port = broker.partition(":")
        self._broker = (host, int(port))
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.brokerless = False
        """While True, answers name no broker."""
        self.hidden = 0
        """How many answers did."""
        threading.Thread(target=self._accept, name="kafka proxy", daemon=True).start()

    @property
    def address(self) -> str:
        """Bootstrap servers for a client that shall come this way."""
        return f"127.0.0.1:{self._port}"

    @property
    def _port(self) -> int:
        return int(self._door.getsockname()[1])

    def cut(self) -> None:
        """End all connections; new ones are taken."""
        cut, self._open = self._open, []
        for each in cut:
            _end(each)

    def close(self) -> None:
        """End all connections and take no more."""
        _end(self._door)
        self._door.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
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
            if kind in (_METADATA, _FIND_COORDINATOR):
                asked[correlation] = (kind, version)
            _send(broker, request)

    def _answer(
        self, broker: socket.socket, client: socket.socket, asked: dict[int, tuple[int, int]]
    ) -> None:
        for answer in _frames(broker, client):
            kind, version = asked.pop(struct.unpack_from(">i", answer)[0], (None, 0))
            if kind == _METADATA:
                assert version >= _FLEXIBLE_METADATA, version
                answer = self._metadata(answer)
            elif kind == _FIND_COORDINATOR:
                # Small enough for the four bytes of the port to stand nowhere else.
                answer = answer.replace(
                    struct.pack(">i", self._broker[1]), struct.pack(">i", self._port)
                )
            _send(client, answer)

    def _metadata(self, answer: bytes) -> bytes:
        """The answer with our port in place of the broker's, or without brokers."""
        start = 9  # Correlation id, tagged fields (none), throttle time.
        count, at = _uvarint(answer, start)
        brokers = b""
        for _ in range(count - 1):
            begun = at
            length, at = _uvarint(answer, at + 4)  # Node id, host.
            at += length - 1
            port = at
            length, at = _uvarint(answer, at + 4)  # Rack, null or of some length.
            _, at = _uvarint(answer, at + max(length - 1, 0))  # Tagged fields (none).
            brokers += answer[begun:port] + struct.pack(">i", self._port) + answer[port + 4 : at]
        if self.brokerless:
            self.hidden += 1
            return answer[:start] + b"\x01" + answer[at:]
        return answer[:start] + bytes([count]) + brokers + answer[at:]


@contextlib.contextmanager
def kafka_proxy(broker: str) -> Iterator[KafkaProxy]:
    """One, closed at the end."""
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
    """The messages of a connection until it ends; then the other one is ended too."""
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
