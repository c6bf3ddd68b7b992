"""Asks a broker for groups' committed offsets, in Kafka's own protocol over a plain socket.

The client library's admin calls abort or crash their process when a coordinator disappears during
the call, and the ledger run stops coordinators. One request is sufficient: OffsetFetch (key 9) in
version 5, for all partitions of a group.
"""

import socket
import struct

from headrace.domain.record import Partition

OFFSET_FETCH, VERSION = 9, 5
RESPONSE_BYTES_MAX = 1 << 20


class OffsetReader:
    """A connection to one broker, which must be every group's coordinator: the only node of a
    cluster is.
    """

    def __init__(self, bootstrap_servers: str, *, seconds: float = 2.0) -> None:
        host, _, port = bootstrap_servers.partition(":")
        self._address = (host, int(port))
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._correlation = 0

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def committed(self, group: str) -> dict[Partition, int]:
        """Committed offsets of a group; empty if it has none. Raises OSError if no answer comes in
        time, or an error.
        """
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._seconds)
            self._correlation += 1
            header = struct.pack(">hhi", OFFSET_FETCH, VERSION, self._correlation) + _string(
                "headrace-proof"
            )
            request = header + _string(group) + struct.pack(">i", -1)
            self._socket.sendall(struct.pack(">i", len(request)) + request)
            return self._parse(self._read(self._socket))
        except OSError:
            self.close()
            raise

    def _read(self, connection: socket.socket) -> bytes:
        (length,) = struct.unpack(">i", _exactly(connection, 4))
        if not 0 <= length <= RESPONSE_BYTES_MAX:
            raise OSError(f"the broker announces an answer of {length} bytes")
        return _exactly(connection, length)

    def _parse(self, answer: bytes) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        at = 8  # correlation id and throttle time
        (topics,) = struct.unpack_from(">i", answer, at)
        at += 4
        for _ in range(topics):
            name, at = _take_string(answer, at)
            (partitions,) = struct.unpack_from(">i", answer, at)
            at += 4
            for _ in range(partitions):
                number, offset, _epoch = struct.unpack_from(">iqi", answer, at)
                _metadata, at = _take_string(answer, at + 16)
                (code,) = struct.unpack_from(">h", answer, at)
                at += 2
                if offset >= 0 and code == 0:
                    found[Partition(name, number)] = offset
        (code,) = struct.unpack_from(">h", answer, at)
        if code:
            raise OSError(f"the broker answers with error {code}")
        return found


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _take_string(answer: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", answer, at)
    at += 2
    return ("", at) if length < 0 else (answer[at : at + length].decode(), at + length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise OSError("the broker closed the connection")
        parts += part
    return parts
