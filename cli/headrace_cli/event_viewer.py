"""The event viewer: a subscriber that prints the events it receives, alone (`headrace viewer`) or
in `headrace up`.

It answers 200 to every event that it can print. Events contain user data: they are printed only on
the terminal of the user who requested them, truncated and with control characters escaped, and
never logged.
"""

from collections.abc import Callable, Collection
from datetime import datetime

from rich.console import Console
from rich.text import Text

from headrace.adapters.http.server import (
    Exchange,
    HttpServer,
    LocalGuard,
    PreparedResponse,
    ServerLimits,
)
from headrace.adapters.http.server_local_guard import is_local_bind
from headrace.codec.http import read
from headrace.domain.errors import HeadraceError
from headrace.domain.record import Record
from headrace.runtime.sockets import LOOPBACK, VIEWER_PORT, http_url, listen, port_of
from headrace_cli.terminal import printable, printable_data

ATTRIBUTE_CHARACTERS_MAX = 300
EVENT_BYTES_MAX = 16 * 1_048_576
_WELL_KNOWN = ("specversion", "type", "source", "id")

Shown = Callable[[str, str], None]
"""Called with path and id of each event shown."""


class EventViewer:
    """A component of a service: an HTTP subscriber that prints events."""

    def __init__(
        self,
        console: Console,
        *,
        host: str = LOOPBACK,
        port: int = VIEWER_PORT,
        hosts: Collection[str] = (),
        shown: Shown = lambda path, id: None,
    ) -> None:
        """Open the port. Raises `PortInUse`.

        On a loopback address, the Host header of a request must name a loopback address or one of
        `hosts`, and requests from web pages are rejected.
        """
        self._console = console
        self._shown = shown
        self._socket = listen(host, port, purpose="the event viewer", option="--viewer-port")
        self.host = host
        self.port = port_of(self._socket)
        limits = ServerLimits(
            body_bytes_max=EVENT_BYTES_MAX,
            unread_bytes_max=4 * EVENT_BYTES_MAX,
            connections_max=256,
            drain_seconds=1.0,
        )
        guard = (
            LocalGuard(hosts, setting="--allow-host of `headrace viewer`")
            if is_local_bind(host)
            else None
        )
        self._server = HttpServer(self._handle, limits=limits, guard=guard)

    @property
    def url(self) -> str:
        """The URL that receives events."""
        return http_url(self.host, self.port)

    async def start(self) -> None:
        """Start receiving events."""
        await self._server.start(self._socket)

    async def stop(self) -> None:
        """Stop receiving events. Idempotent."""
        await self._server.stop()
        self._socket.close()

    def _handle(self, exchange: Exchange) -> None:
        if exchange.method != b"POST":
            exchange.respond(
                405, ((b"allow", b"POST"), (b"content-type", b"text/plain")), b"post events here\n"
            )
            return
        path = exchange.target.decode("ascii", errors="replace").partition("?")[0]
        try:
            records = read(exchange.headers, exchange.body, arrival=None)
        except HeadraceError as error:
            exchange.respond(
                400, ((b"content-type", b"text/plain; charset=utf-8"),), f"{error}\n".encode()
            )
            self._console.print(
                Text(
                    f"{_clock()}  {printable(path, 200)}  not an event:"
                    f" {printable(str(error), 300)}",
                    style="yellow",
                )
            )
            return
        exchange.send(_SEEN)
        for record in records:
            attributes = _attributes(record)
            self._console.print(_rendered(path, attributes, record.value or b""), soft_wrap=True)
            self._shown(path, attributes.get("id", ""))


_SEEN = PreparedResponse(200)


def _attributes(record: Record) -> dict[str, str]:
    found = {}
    for name, value in record.headers:
        if name.startswith("ce_"):
            found[name.removeprefix("ce_")] = value.decode("utf-8", errors="replace")
        elif name == "content-type":
            found["datacontenttype"] = value.decode("utf-8", errors="replace")
    return found


def _rendered(path: str, attributes: dict[str, str], data: bytes) -> Text:
    text = Text()
    text.append(f"{_clock()}  ", style="dim")
    text.append(printable(path, 200), style="bold cyan")
    text.append(f"  {printable(attributes.get('type', '?'), 200)}", style="bold green")
    text.append(
        f"  from {printable(attributes.get('source', '?'), 200)}, id"
        f" {printable(attributes.get('id', '?'), 200)}"
    )
    others = [
        f"{printable(name, 40)}={printable(value, ATTRIBUTE_CHARACTERS_MAX)}"
        for name, value in attributes.items()
        if name not in _WELL_KNOWN and name != "datacontenttype"
    ]
    if others:
        text.append("\n          " + "  ".join(others), style="dim")
    if data:
        text.append("\n          " + printable_data(data, attributes.get("datacontenttype", "")))
    return text


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
