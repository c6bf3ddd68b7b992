"""The interface between the sources service and an adapter.

An adapter is a class with a typed configuration and one coroutine:

    class CounterConfig(SourceConfig):
        seconds: float = 1.0


    class CounterSource:
        Config = CounterConfig

        def __init__(self, config: CounterConfig, context: SourceContext) -> None:
            self._config, self._context = config, context

        async def run(self, emit: Emit) -> None:
            for number in itertools.count():
                await emit(new_event("com.example.counter", "/counter", str(number)))
                await asyncio.sleep(self._config.seconds)

The service creates the object, runs it, restarts it with a backoff when `run` raises, and cancels
it when the resource is deleted or changed, the process stops, or another process takes the work
over. Cancellation is the only way in which it is stopped; `run` may use up to 5 s for cleaning up.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from headrace.adapters.http.client_options import AddressPolicy
from headrace.domain.errors import Temporary
from headrace.domain.event import Event, Value
from headrace.domain.ports import Clock
from headrace_sources.api_server import ApiServer
from headrace_sources.settings import SourcesSettings

DEPLOYED = "Deployed"
"""The condition of every source: a process of this service runs it."""


class SourceConfig(BaseModel):
    """The configuration of an adapter; fields have the names of the resource's fields, in camel
    case. A configuration that is not valid makes the condition `Deployed` False.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class SecretKeyRef(SourceConfig):
    """One value of a Secret in the source's namespace."""

    name: str
    key: str


class NotDelivered(Temporary):
    """The sink has not taken an event, and every retry of the delivery policy is used up; nor has
    a dead letter sink, if there is one. The adapter must not confirm the event to the outside
    system.
    """


class SourceFault(Temporary):
    """The adapter cannot work until a user acts or something recovers.

    The condition `condition` of the resource becomes False with this reason and message, and `run`
    is called again after a backoff. The message says what to do and contains no secret.
    """

    def __init__(self, reason: str, message: str, *, condition: str = DEPLOYED) -> None:
        super().__init__(message)
        self.reason = reason
        self.condition = condition


class Emit(Protocol):
    """Sends events to the sink of the source."""

    async def __call__(self, event: Event) -> None:
        """Return when the sink has taken the event, or its dead letter sink has.

        Retries by the delivery policy of the source. `ceOverrides` are applied here. Events of one
        caller that awaits each of them are delivered in order. Raises `NotDelivered`, and
        `InvalidEvent` for an event that no sink may take.
        """
        ...

    def start(self, event: Event, done: Callable[[Exception | None], None]) -> Callable[[], None]:
        """The same without a coroutine, for many events at once: `done` is called once on the event
        loop, with None or `NotDelivered`. The caller bounds how many are under way.

        Returns a function that gives the event up: `done` is not called after it. Raises
        `InvalidEvent`.
        """
        ...


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request that an outside system has sent to the address of a source."""

    method: str
    headers: Mapping[str, str]
    """Names in lower case; of a repeated field, the last value."""
    query: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """The answer to it."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


WebhookHandler = Callable[[WebhookRequest], Awaitable[WebhookResponse]]


class SourceContext(Protocol):
    """What one running source has of the service."""

    @property
    def namespace(self) -> str:
        """Namespace of the resource."""
        ...

    @property
    def name(self) -> str:
        """Name of the resource."""
        ...

    @property
    def uid(self) -> str:
        """Uid of the resource."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def address_denied(self) -> AddressPolicy:
        """Which addresses of an outside system may not be connected to when a user's URL names
        it.
        """
        ...

    @property
    def settings(self) -> SourcesSettings:
        """What the operator has set for this service."""
        ...

    def report(
        self, condition: str, status: bool | None, reason: str = "", message: str = ""
    ) -> None:
        """Set a condition of the resource; None is Unknown. It is shown within seconds."""
        ...

    def publish(self, **fields: Any) -> None:
        """Set fields of the resource's status (JSON values); None removes one. `SourceContext`
        returns them in `published` after a restart.
        """
        ...

    @property
    def published(self) -> Mapping[str, Any]:
        """The status fields that this source has published, now or before a restart."""
        ...

    async def secret(self, reference: SecretKeyRef) -> bytes:
        """Return the value of a Secret. When it changes later, the source is restarted.

        Raises `SourceFault`, with the reason `SecretNotFound`, if there is no such value.
        """
        ...

    @property
    def cursor(self) -> str | None:
        """What `save_cursor` stored last, by any process; None if nothing was. Only a source that
        one process runs at a time has a cursor.
        """
        ...

    async def save_cursor(self, cursor: str) -> None:
        """Store where the source is, at most 64 KiB, so that the next process continues there.
        Raises a `HeadraceError` if it was not stored.
        """
        ...

    async def lead(self) -> None:
        """Wait until this process is the one that has the lease of this source. When it loses it,
        the source is restarted. For a source that every process runs, and of which one does more.
        """
        ...

    @property
    def api_server(self) -> ApiServer | None:
        """The Kubernetes API server that this process uses: that of its cluster, or the
        controller's. None if it has none.
        """
        ...

    def receive(self, handler: WebhookHandler) -> AbstractContextManager[str]:
        """Handle the requests that arrive at the address of this source while the context manager
        is open; its value is the public URL of that address.
        """
        ...


class Source(Protocol):
    """An adapter. A class of this protocol is created with its configuration and a context.

    A class may have a coroutine `finalize()`, which removes what the source has in the outside
    system, before the resource is gone. It is called instead of `run`, and raises `SourceFault` to
    be called again.
    """

    Config: ClassVar[type[SourceConfig]]

    async def run(self, emit: Emit) -> None:
        """Read from the outside and emit, until cancelled."""
        ...


def event_time(seconds: float, precision: str = "milliseconds") -> str:
    """Return Unix seconds as the attribute `time` has them: RFC 3339, UTC. `precision` is the
    `timespec` of `datetime.isoformat`. Raises what `datetime.fromtimestamp` raises.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def new_event(
    type: str,
    source: str,
    data: bytes | None = None,
    *,
    id: str | None = None,
    content_type: str | None = None,
    **attributes: Value | None,
) -> Event:
    """Return an event with these attributes, without those that are None.

    `id` should come from the outside, so that an event that is read twice has the same one; without
    it, a random one is made. `content_type` is the attribute `datacontenttype`.
    """
    given = {**attributes, "datacontenttype": content_type}
    return Event(
        {
            "specversion": "1.0",
            "id": id or str(uuid.uuid4()),
            "source": source,
            "type": type,
            **{name: value for name, value in given.items() if value is not None},
        },
        data,
    )
