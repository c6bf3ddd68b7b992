"""One connection to NATS that is renewed without end.

The client library reconnects by itself, but closes for good on some errors of the server (an
authorization that is refused while the server starts, a protocol error). Then this module creates a
new client and repeats the subscriptions. Those who must send something again are called after each
connection.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from headrace.adapters.nats.connect_error import connect_error_text
from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.options import NatsOptions
from headrace.adapters.nats.unusable_file import UnusableFile
from headrace.domain.errors import LogUnavailable

logger = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")
OnMessage = Callable[[Msg], Awaitable[None]]

_RECONNECT_SECONDS: Final = 0.25
_REPLACE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 2
_PING_SECONDS: Final = 2
"""A server that is frozen is noticed after two of these."""
_FLUSH_SECONDS: Final = 1.0
"""Without a limit, the client waits forever for a flush that a disconnection has cancelled."""
_LOG_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 3.0
_ROUND_MESSAGES: Final = 64
"""Messages sent before other tasks of the event loop have their turn."""
_BUFFER_BYTES_MAX: Final = 4 * 1_048_576
_API: Final = "$JS.API."
_FAILURES: Final = (nats.errors.Error, OSError, TimeoutError)
_CLOSED: Final = (ConnectionResetError, BrokenPipeError, nats.errors.UnexpectedEOF)
"""The server has closed the connection. It says why before; and a server that refuses a client may
close before the client has read the reason.
"""


class PlainServer(nats.errors.Error):
    """TLS is wanted, and the server does not ask for it."""

    def __init__(self) -> None:
        super().__init__(
            "the server does not ask for TLS, but HEADRACE_NATS_CA_FILE,"
            " HEADRACE_NATS_CERTIFICATE_FILE or a tls:// URL in HEADRACE_NATS_SERVERS does"
        )


class _Client(Client):
    """A client that sends nothing to a server that is not as encrypted as it should be: the
    library would continue without TLS, and send credentials and events readable on the network.

    It reads the certificates for each connection, as they may have been renewed. Those of the last
    connection are used while the files cannot be.
    """

    def __init__(self, options: NatsOptions) -> None:
        super().__init__()
        self._encrypted = options.encrypted
        self._read_certificates = options.tls_context
        self._unusable = ""

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The library asks for it when it begins to encrypt a connection."""
        try:
            if self._encrypted:
                self.options["tls"] = self._read_certificates()
            self._unusable = ""
        except UnusableFile as error:
            if str(error) != self._unusable:
                self._unusable = str(error)
                logger.warning(
                    "certificate_not_usable",
                    used_by="NATS",
                    error=str(error),
                    next_step="correct the file; the certificates of the last connection are used",
                )
        return super().ssl_context

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._encrypted and not info.get("tls_required"):
            raise PlainServer
        await super()._process_info(info, initial_connection)


async def _call(awaitable: Awaitable[ResultT]) -> ResultT:
    """Return the result of a call of the client library. Raises CancelledError if the task was
    cancelled while it waited.

    The library ignores a cancellation while it flushes. And it uses `asyncio.wait_for`, which
    before Python 3.12 returns a result that arrives in the same round of the event loop as the
    cancellation. The task would continue: a stopped reader would renew its lease without end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await awaitable
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


class NatsSubscription:
    """A subject and its callback, on the connection's present client."""

    def __init__(self, subject: str, on_message: OnMessage) -> None:
        self.subject = subject
        self.on_message = on_message
        self.client_subscription: Subscription | None = None


class NatsConnection:
    """Sends, requests and subscribes. To be used on the event loop that started it."""

    def __init__(self, options: NatsOptions) -> None:
        self.timeout_seconds = options.timeout_seconds
        self._options = options
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._closed = False
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._waiting = asyncio.Event()
        self._drained = asyncio.Event()
        self._queue: deque[tuple[str, bytes, str, dict[str, str] | None]] = deque()
        self._watchers: list[Callable[[], None]] = []
        self._subscriptions: list[NatsSubscription] = []
        self._logged_at = -_LOG_SECONDS
        self.last_error = ""
        """Text of the last error of the client, for messages; empty while it works."""

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._client is not None and self._client.is_connected

    @property
    def refused(self) -> bool:
        """Whether the server refuses the credentials or a permission."""
        text = self.last_error.lower()
        return "authorization" in text or "permissions violation" in text

    @property
    def message_bytes_max(self) -> int | None:
        """The server's `max_payload`: bytes of headers and payload; None before the first
        connection.
        """
        return self._client.max_payload if self._client is not None else None

    def start(self) -> None:
        """Connect in the background. Idempotent; does nothing after `close`."""
        if self._task is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run())
            self._sender = loop.create_task(self._send_queued())

    async def wait_connected(self, timeout_seconds: float) -> None:
        """Return when the server has answered. Raises `LogUnavailable`, after `close` at once."""
        self.start()
        if self._closed:
            raise LogUnavailable("NATS: this process has closed the connection")
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._connected.wait()
        except TimeoutError:
            raise LogUnavailable(self._unavailable("NATS", timeout_seconds)) from None

    def watch(self, connected: Callable[[], None]) -> None:
        """Call `connected` on the event loop after each connection that is made from now on."""
        self._watchers.append(connected)

    def unwatch(self, connected: Callable[[], None]) -> None:
        """Undo `watch`."""
        if connected in self._watchers:
            self._watchers.remove(connected)

    # Messages.

    def send(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Queue a message; it is sent in order when the server is connected, and may be lost with
        the connection. Callers bound what they queue.
        """
        self._queue.append((subject, payload, reply, headers))
        if len(self._queue) == 1:
            self._drained.clear()
            self._waiting.set()

    async def flush(self, timeout_seconds: float) -> None:
        """Return when the server has received all that was sent. Raises `LogUnavailable`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                if self._queue:
                    await self._drained.wait()
                if self._client is not None:
                    await _call(self._client.flush(max(1, int(timeout_seconds))))
        except _FAILURES as error:
            raise LogUnavailable(self._unavailable("NATS", timeout_seconds)) from error

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: dict[str, str] | None = None,
        timeout_seconds: float | None = None,
        what: str = "NATS",
    ) -> Msg:
        """Return the answer to a message. Raises `LogUnavailable`, which names `what`."""
        timeout_seconds = timeout_seconds or self.timeout_seconds
        deadline = time.monotonic() + timeout_seconds
        await self.wait_connected(timeout_seconds)
        client = self._current()
        try:
            left = max(0.001, deadline - time.monotonic())
            async with asyncio.timeout(left):
                return await _call(client.request(subject, payload, timeout=left, headers=headers))
        except nats.errors.NoRespondersError as error:
            raise LogUnavailable(
                f"{what}: nobody answers on {subject}; JetStream may be disabled, or without a"
                " leader"
            ) from error
        except _FAILURES as error:
            raise LogUnavailable(self._unavailable(what, timeout_seconds)) from error

    async def call(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        what: str = "JetStream",
    ) -> dict[str, Any]:
        """Return the answer of the JetStream API. Raises `ApiError` for one with an error, and
        `LogUnavailable`.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        answer = await self.request(
            _API + path, payload, timeout_seconds=timeout_seconds, what=what
        )
        found: dict[str, Any] = json.loads(answer.data)
        if "error" in found:
            raise ApiError(found["error"])
        return found

    # Subscriptions.

    def new_inbox(self) -> str:
        """Return a subject of this process's own. Raises `LogUnavailable` before the first
        connection.
        """
        return self._current().new_inbox()

    def _current(self) -> Client:
        if self._client is None:
            raise LogUnavailable("NATS: the connection is closed or being replaced")
        return self._client

    async def subscribe(self, subject: str, on_message: OnMessage) -> NatsSubscription:
        """Receive the messages of a subject until `unsubscribe`, also after reconnections. Raises
        `LogUnavailable`.
        """
        subscription = NatsSubscription(subject, on_message)
        await self.wait_connected(self.timeout_seconds)
        try:
            await self._subscribe(self._current(), subscription)
        except _FAILURES as error:
            raise LogUnavailable(self._unavailable("NATS", self.timeout_seconds)) from error
        self._subscriptions.append(subscription)
        return subscription

    async def unsubscribe(self, subscription: NatsSubscription) -> None:
        """End a subscription. Idempotent; never raises."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            if subscription.client_subscription is not None:
                with contextlib.suppress(*_FAILURES):
                    await _call(subscription.client_subscription.unsubscribe())

    async def _subscribe(self, client: Client, subscription: NatsSubscription) -> None:
        subscription.client_subscription = await _call(
            client.subscribe(
                subscription.subject,
                cb=subscription.on_message,
                # Subscribers ask for what they receive; the client must not drop any of it.
                pending_msgs_limit=0,
                pending_bytes_limit=0,
            )
        )

    # The connection.

    async def close(self) -> None:
        """Close for good. Idempotent. Messages that are not sent yet are dropped."""
        self._closed = True
        tasks = [task for task in (self._task, self._sender) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        self._task = self._sender = None
        client, self._client = self._client, None
        if client is not None:
            await self._close_client(client)

    async def _run(self) -> None:
        while True:
            self._ended.clear()
            client = _Client(self._options)
            try:
                await _call(self._connect(client))
                for subscription in self._subscriptions:
                    await self._subscribe(client, subscription)
                self._client = client
                self._on_connected()
                await self._ended.wait()
            except asyncio.CancelledError:
                if self._client is not client:
                    await self._close_client(client)
                raise
            except _FAILURES as error:
                await self._on_error(error)
            except Exception as error:
                # Without this task nothing would ever connect again.
                logger.exception("nats_connection_failed", error=str(error))
                await self._on_error(error)
            self._connected.clear()
            self._client = None
            await self._close_client(client)
            await asyncio.sleep(_REPLACE_SECONDS)

    def _connect(self, client: Client) -> Awaitable[None]:
        return client.connect(
            **self._options.client(),
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]  # any number
            connect_timeout=_CONNECT_SECONDS,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=_BUFFER_BYTES_MAX,
            flush_timeout=_FLUSH_SECONDS,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )

    async def _close_client(self, client: Client) -> None:
        # The library asserts that the client has begun to connect.
        with contextlib.suppress(*_FAILURES, AssertionError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await client.close()

    def _on_connected(self) -> None:
        self.last_error = ""
        self._connected.set()
        self._waiting.set()
        for watcher in list(self._watchers):
            try:
                watcher()
            except Exception:
                logger.exception("nats_watcher_failed")

    async def _on_reconnected(self) -> None:
        logger.info("nats_reconnected")
        self._on_connected()

    async def _on_disconnected(self) -> None:
        self._connected.clear()

    async def _on_closed(self) -> None:
        self._connected.clear()
        self._ended.set()

    async def _on_error(self, error: Exception) -> None:
        if self.last_error and isinstance(error, _CLOSED):
            return
        self.last_error = connect_error_text(error, self._options)
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            logger.info("nats_client_error", error=self.last_error)

    def _unavailable(self, what: str, timeout_seconds: float) -> str:
        reason = f" ({self.last_error})" if self.last_error else ""
        return f"{what}: NATS did not answer within {timeout_seconds:g} s{reason}"

    async def _send_queued(self) -> None:
        queue = self._queue
        # The library ignores a cancellation while it publishes.
        while not self._closed:
            await self._waiting.wait()
            self._waiting.clear()
            await self._connected.wait()
            while queue and (client := self._client) is not None and client.is_connected:
                for _ in range(min(len(queue), _ROUND_MESSAGES)):
                    subject, payload, reply, headers = queue[0]
                    try:
                        await client.publish(subject, payload, reply=reply, headers=headers)
                    except nats.errors.OutboundBufferLimitError:
                        break
                    except _FAILURES as error:
                        await self._on_error(error)
                    queue.popleft()
                await asyncio.sleep(0)
            if not queue:
                self._drained.set()
