"""An adapter for tests: counts, from its cursor on, with what its configuration asks for."""

import asyncio
from typing import ClassVar

from headrace.domain.event import Event
from headrace_sources.source import (
    Emit,
    SecretKeyRef,
    SourceConfig,
    SourceContext,
    SourceFault,
    WebhookRequest,
    WebhookResponse,
    new_event,
)


class CounterConfig(SourceConfig):
    """`data` says what the source does beside counting; see `CounterSource.run`."""

    type: str
    source: str
    schedule: str = ""
    data: str = ""
    content_type: str = ""
    missed_runs: str = ""


class CounterSource:
    """Counts events 0, 1, 2, ... one after the other, five a second."""

    Config: ClassVar[type[SourceConfig]] = CounterConfig

    def __init__(self, config: CounterConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    async def run(self, emit: Emit) -> None:
        """`secret` sends the value of a Secret, `fail` fails, `receive` sends what it receives."""
        match self._config.data.partition("=")[0]:
            case "fail":
                raise SourceFault("Refused", "the outside refuses; ask it nicely")
            case "receive":
                await self._receive(emit)
            case "secret":
                value = await self._context.secret(SecretKeyRef(name="counter", key="value"))
                await emit(self._event("secret", value))
                await asyncio.Event().wait()
            case _:
                await self._count(emit)

    async def _count(self, emit: Emit) -> None:
        number = int(self._context.cursor or 0)
        while True:
            await emit(self._event(str(number), b"%d" % number))
            number += 1
            await self._context.save_cursor(str(number))
            await asyncio.sleep(0.2)

    async def _receive(self, emit: Emit) -> None:
        async def received(request: WebhookRequest) -> WebhookResponse:
            await emit(self._event("received", request.body))
            return WebhookResponse(202, "accepted\n")

        with self._context.receive(received):
            await asyncio.Event().wait()

    def _event(self, id: str, data: bytes) -> Event:
        return new_event(
            self._config.type, self._config.source, data, id=id, content_type="text/plain"
        )
