"""Running one adapter without the sources service: a context and an `emit` that record."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headrace.adapters.http.client_options import AddressPolicy, deny_none
from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.attributes import check
from headrace.domain.event import Event
from headrace.domain.ports import Clock
from headrace_sources.api_server import ApiServer
from headrace_sources.settings import SourcesSettings
from headrace_sources.source import (
    NotDelivered,
    SecretKeyRef,
    Source,
    SourceFault,
    WebhookHandler,
)


class RecordingEmit:
    """Implements `headrace_sources.source.Emit`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        """What the sink has taken."""
        self.attempts = 0
        self.refuse = 0
        """How many of the next events are not delivered."""
        self.gate = asyncio.Event()
        """Events wait while it is not set."""
        self.gate.set()
        self._arrived = asyncio.Condition()

    async def __call__(self, event: Event) -> None:
        """See `Emit`."""
        check({"specversion": "1.0", **event.attributes})
        self.attempts += 1
        async with self._arrived:
            self._arrived.notify_all()
        await self.gate.wait()
        if self.refuse:
            self.refuse -= 1
            raise NotDelivered("the sink has not taken the event: status 503")
        self.events.append(event)
        async with self._arrived:
            self._arrived.notify_all()

    def start(self, event: Event, done: Callable[[Exception | None], None]) -> Callable[[], None]:
        """See `Emit`."""
        check({"specversion": "1.0", **event.attributes})

        async def emit() -> None:
            error: Exception | None = None
            try:
                await self(event)
            except NotDelivered as failure:
                error = failure
            done(error)

        task = asyncio.get_running_loop().create_task(emit())
        return lambda: _cancel(task)

    async def wait_for(self, count: int, seconds: float = 10.0) -> list[Event]:
        """Wait until the sink has taken `count` events."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= count)
        return self.events

    async def wait_for_attempts(self, count: int, seconds: float = 10.0) -> None:
        """Wait until `count` events were emitted, taken or not."""
        async with asyncio.timeout(seconds), self._arrived:
            await self._arrived.wait_for(lambda: self.attempts >= count)


def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()


class RecordingContext:
    """Implements `headrace_sources.source.SourceContext`."""

    def __init__(
        self,
        *,
        namespace: str = "default",
        name: str = "source",
        uid: str = "uid-1",
        secrets: Mapping[tuple[str, str], bytes] | None = None,
        cursor: str | None = None,
        clock: Clock | None = None,
        published: Mapping[str, Any] | None = None,
        settings: SourcesSettings | None = None,
    ) -> None:
        """`secrets` are values by name and key of their Secret."""
        self.namespace, self.name, self.uid = namespace, name, uid
        self.clock: Clock = clock or MemoryClock()
        self.settings = settings or SourcesSettings()
        self.secrets = dict(secrets or {})
        self.cursor = cursor
        self.address_denied: AddressPolicy = deny_none
        self.conditions: dict[str, tuple[bool | None, str, str]] = {}
        self.fields: dict[str, Any] = dict(published or {})
        self.handler: WebhookHandler | None = None
        """What receives requests at the moment."""
        self.api_server: ApiServer | None = None
        self.leader = asyncio.Event()
        self.leader.set()

    @property
    def published(self) -> Mapping[str, Any]:
        """See `SourceContext`."""
        return {name: value for name, value in self.fields.items() if value is not None}

    def report(
        self, condition: str, status: bool | None, reason: str = "", message: str = ""
    ) -> None:
        """See `SourceContext`."""
        self.conditions[condition] = (status, reason, message)

    def publish(self, **fields: Any) -> None:
        """See `SourceContext`."""
        self.fields.update(fields)

    async def secret(self, reference: SecretKeyRef) -> bytes:
        """See `SourceContext`."""
        try:
            return self.secrets[reference.name, reference.key]
        except KeyError:
            raise SourceFault(
                "SecretNotFound", f"Secret {self.namespace}/{reference.name} does not exist"
            ) from None

    async def save_cursor(self, cursor: str) -> None:
        """See `SourceContext`."""
        self.cursor = cursor

    async def lead(self) -> None:
        """See `SourceContext`."""
        await self.leader.wait()

    @contextmanager
    def receive(self, handler: WebhookHandler) -> Iterator[str]:
        """See `SourceContext`."""
        self.handler = handler
        try:
            yield f"http://127.0.0.1:8084/{self.namespace}/{self.name}"
        finally:
            self.handler = None


@contextlib.asynccontextmanager
async def running(source: Source, emit: RecordingEmit) -> AsyncIterator[asyncio.Task[None]]:
    """Run a source until the block ends. A source that has failed fails the test."""
    task = asyncio.create_task(source.run(emit))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
