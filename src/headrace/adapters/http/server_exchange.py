"""A request and its single response, as passed to the handler."""

from collections.abc import Callable
from typing import Any, Protocol

from headrace.adapters.http.server_head import RequestHead
from headrace.adapters.http.server_response import Fields, PreparedResponse, response_head


class ExchangeOwner(Protocol):
    """The connection that an exchange belongs to."""

    peer: str
    """Address of the client."""

    def answer(self, head: bytes, body: bytes) -> None:
        """Write the response: a head without its final empty line, and the body."""
        ...


class Exchange:
    """One request, which accepts one response.

    Responses after the first one, or after the client has disconnected, are discarded.
    """

    __slots__ = (
        "_connection",
        "body",
        "body_bytes_max",
        "context",
        "head",
        "length",
        "on_answered",
        "values",
    )

    def __init__(
        self,
        connection: ExchangeOwner,
        head: RequestHead,
        values: tuple[bytes, ...],
        length: int,
        body_bytes_max: int,
    ) -> None:
        self._connection: ExchangeOwner | None = connection
        self.head = head
        """Method, target, names of the fields and Host. Its values may be those of another
        request.
        """
        self.values = values
        """Values of the header fields in order, without surrounding space."""
        self.length = length
        """The Content-Length in bytes, or -1 if the body is chunked."""
        self.body = b""
        """Complete when the handler is called; empty in the admission hook."""
        self.body_bytes_max = body_bytes_max
        """Largest body in bytes; the admission hook may lower it."""
        self.context: Any = None
        """Data that the admission hook passes to the handler."""
        self.on_answered: Callable[[int], None] | None = None
        """Called once with the status of the response, or with 0 when the client has disconnected
        before it.
        """

    @property
    def method(self) -> bytes:
        """As sent. Hot paths use `head`."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """The request target as sent, including percent-encoding and query."""
        return self.head.target

    @property
    def host(self) -> bytes:
        """The Host field; empty in an HTTP/1.0 request without it."""
        return self.head.host

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields as pairs, names in lower case. Hot paths use `head.names` and
        `values`.
        """
        return list(zip(self.head.names, self.values, strict=True))

    @headers.setter
    def headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        head = self.head
        names = tuple(name for name, _ in headers)
        self.values = tuple(value for _, value in headers)
        self.head = RequestHead(
            head.method, head.target, names, self.values, head.host, head.framing
        )

    @property
    def answered(self) -> bool:
        """Whether a response has been sent, or the client has disconnected."""
        return self._connection is None

    @property
    def peer(self) -> str:
        """Address of the client; empty after the response or after the client has disconnected."""
        return self._connection.peer if self._connection else ""

    def send(self, answer: PreparedResponse) -> None:
        """Send a response that was serialized before."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            if self.on_answered is not None:
                self.on_answered(answer.status)
            connection.answer(answer.head, answer.body)

    def respond(self, status: int, fields: Fields = (), body: bytes = b"") -> None:
        """Send a response.

        Raises ValueError for a header field that contains a line break; nothing is sent then.
        """
        connection = self._connection
        if connection is not None:
            head = response_head(status, fields, len(body))
            self._connection = None
            if self.on_answered is not None:
                self.on_answered(status)
            connection.answer(head, b"" if self.method == b"HEAD" else body)

    def forget(self) -> None:
        """Discard any later response, because the client has disconnected."""
        if self._connection is not None and self.on_answered is not None:
            self.on_answered(0)
        self._connection = None
