"""The controller's start while what it reads is away."""

import asyncio

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.errors import LogUnavailable
from headrace.runtime.clock import SystemClock
from headrace_controller.controller_runtime import ControllerBackends, ControllerRuntime
from headrace_controller.settings import ControllerSettings
from tests.support.wait_until import wait_until_async


class LateStore(MemoryResourceStore):
    """Resources that can be read from the third try on."""

    tries = 0

    async def start(self) -> None:
        """Fail twice."""
        self.tries += 1
        if self.tries < 3:
            raise LogUnavailable(
                "topic headrace.resources at x:1 could not be read to its end within 50 s"
            )
        await super().start()


async def test_a_start_waits_until_resources_can_be_read() -> None:
    """The process does not exit, and `not_ready` says what it waits for."""
    clock, log = SystemClock(), MemoryRoutingLog()
    store = LateStore(clock=clock)
    backends = ControllerBackends(
        store=store,
        admin=MemoryTopicAdmin(),
        routes=MemoryRoutingWriter(log),
        routing=MemoryRoutingReader(log),
        instances=MemoryInstances(clock),
    )
    reconciler = ControllerRuntime(ControllerSettings(port=0).installation(), backends, clock=clock)
    starting = asyncio.create_task(reconciler.start())
    try:
        await wait_until_async(
            lambda: "x:1 could not be read" in str(reconciler.not_ready()), what="the reason"
        )
        await starting
        assert (3, None) == (store.tries, reconciler.not_ready())
    finally:
        starting.cancel()
        await reconciler.stop()
