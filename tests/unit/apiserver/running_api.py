"""A controller over memory adapters, on its own port and in a thread, for tests that use HTTP."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3

from headrace.adapters.memory.admin import MemoryTopicAdmin
from headrace.adapters.memory.instances import MemoryInstances
from headrace.adapters.memory.routing import (
    MemoryRoutingLog,
    MemoryRoutingReader,
    MemoryRoutingWriter,
)
from headrace.adapters.memory.store import MemoryResourceStore
from headrace.domain.ports import Instance
from headrace.runtime.clock import SystemClock
from headrace.runtime.health import Health
from headrace_controller.app import Controller
from headrace_controller.controller_runtime import ControllerBackends
from headrace_controller.settings import ControllerSettings

START_SECONDS = 10.0
REPORT_SECONDS = 2.0


class ApiUnderTest:
    """The address of the API and a client for it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = urllib3.PoolManager(timeout=10, retries=False)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Code and document of one request; `content` is sent as it is."""
        answer = self.request(method, path, body, content=content, headers=headers)
        return answer.status, json.loads(answer.data)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The response to one request."""
        text = (
            content if content is not None else None if body is None else json.dumps(body).encode()
        )
        return self._http.request(
            method,
            self.url + path,
            body=text,
            headers={"Content-Type": "application/json", **(headers or {})},
        )

    def watch(self, path: str) -> list[dict[str, Any]]:
        """The events of a watch that ends by itself."""
        return [json.loads(line) for line in self.request("GET", path).data.splitlines()]

    def text(self, path: str) -> tuple[int, str]:
        """Code and text of a GET."""
        answer = self._http.request("GET", self.url + path)
        return answer.status, answer.data.decode()

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()


async def _live_data_plane(instances: MemoryInstances) -> None:
    while True:
        for service in ("ingress", "dispatcher"):
            await instances.report(Instance(service, service, 1_000_000, 0))
        await asyncio.sleep(REPORT_SECONDS)


@contextmanager
def running_api(settings: ControllerSettings | None = None) -> Iterator[ApiUnderTest]:
    """Start a controller, with one ingress and one dispatcher that report that they are up to date;
    stop it at the end.
    """
    started, ending = threading.Event(), asyncio.Event()
    seen: dict[str, Any] = {}

    async def live() -> None:
        clock, log, health = SystemClock(), MemoryRoutingLog(), Health()
        instances = MemoryInstances(clock)
        alive = asyncio.create_task(_live_data_plane(instances))
        controller = Controller(
            settings or ControllerSettings(port=0),
            ControllerBackends(
                store=MemoryResourceStore(clock=clock),
                admin=MemoryTopicAdmin(brokers=3),
                routes=MemoryRoutingWriter(log),
                routing=MemoryRoutingReader(log),
                instances=instances,
            ),
            clock=clock,
            health=health,
        )
        await controller.start()
        health.started()
        seen.update(url=controller.url, loop=asyncio.get_running_loop())
        started.set()
        await ending.wait()
        alive.cancel()
        await controller.stop()

    thread = threading.Thread(
        target=lambda: asyncio.run(live()), name="controller under test", daemon=True
    )
    thread.start()
    assert started.wait(START_SECONDS), "the controller starts"
    api = ApiUnderTest(seen["url"])
    try:
        yield api
    finally:
        api.close()
        seen["loop"].call_soon_threadsafe(ending.set)
        thread.join(START_SECONDS)
