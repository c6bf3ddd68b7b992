"""A request as its handler sees it, and the one answer it takes."""

from typing import Any, Protocol

from headrace.adapters.http.server_response import Fields, PreparedResponse, response_head


class ExchangeOwner(Protocol):
    """The connection an exchange belongs to."""

    peer: str
    """Address of the client."""

    def answer(self, head: bytes, body: bytes) -> None:
        """Write the answer: a head without its end, and the body."""
        ...


class Exchange:
    """One request and the way to answer it, once; answers after the first, or after the client has
    gone, are dropped.
    """

    __slots__ = (
        "_connection",
        "body",
        "body_bytes_max",
        "context",
        "headers",
        "host",
        "length",
        "method",
        "target",
    )

    def __init__(
        self,
        connection: ExchangeOwner,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        host: bytes,
        length: int,
        body_bytes_max: int,
    ) -> None:
        self._connection: ExchangeOwner | None = connection
        self.method = method
        self.target = target
        """As sent, percent-encoding and query included."""
        self.headers = headers
        """In order, names in lower case, values without surrounding space."""
        self.host = host
        self.length = length
        """Bytes of the body as announced; -1 when it comes in chunks."""
        self.body = b""
        """Complete when the handler is called, empty in the admission hook."""
        self.body_bytes_max = body_bytes_max
        """May be lowered by the admission hook."""
        self.context: Any = None
        """What admission passes to the handler."""

    @property
    def answered(self) -> bool:
        """Whether there is nobody left to answer."""
        return self._connection is None

    @property
    def peer(self) -> str:
        """Address of the client, empty when it has gone."""
        return self._connection.peer if self._connection else ""

    def send(self, answer: PreparedResponse) -> None:
        """Answer with bytes made before."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.answer(answer.head, answer.body)

    def respond(self, status: int, fields: Fields = (), body: bytes = b"") -> None:
        """Answer. Raises ValueError for a header field with a line break in it; then nothing was
        sent.
        """
        connection = self._connection
        if connection is not None:
            head = response_head(status, fields, len(body))
            self._connection = None
            connection.answer(head, b"" if self.method == b"HEAD" else body)

    def forget(self) -> None:
        """The client has gone."""
        self._connection = None
