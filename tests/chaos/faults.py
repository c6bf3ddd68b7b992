"""How each fault is carried out on an installation: one coroutine per kind; it returns when the
fault itself is over.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import urllib3

from tests.support.checker import Generation
from tests.support.headrace_under_test import HeadraceUnderTest, Refused
from tests.support.manifests import Manifest
from tests.support.nemesis import Act, Fault, FaultKind
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until

CHURN_SECONDS = 3.0
JOIN_SECONDS = 120.0
LOOK_SECONDS = 5.0
API_SECONDS = 100.0
"""The controller's API may be unavailable because the controller was killed. While the server
that stores the events is down this time does not count.
"""


class StorageServer(Protocol):
    """The server that stores the events: Kafka, or NATS."""

    def stop(self) -> None:
        """End it with SIGTERM."""

    def kill(self) -> None:
        """End it with SIGKILL."""

    def start(self) -> None:
        """Start it on the same data."""


Change = tuple[Manifest, Generation]
"""A changed subscription, and what it receives from then on."""


class Faults:
    """The faults, and what they changed: the generations of the subscription that is
    reconfigured.
    """

    def __init__(
        self,
        system: HeadraceUnderTest,
        server: StorageServer,
        *,
        initial: Generation,
        changes: Sequence[Change],
    ) -> None:
        """`changes` are made one after the other when the subscription is reconfigured; the last
        one makes it what it was.
        """
        self._system = system
        self._server = server
        self._server_back_at: float | None = 0.0
        """Monotonic time of the server's latest start; None while it is down."""
        self._changes = changes
        self.generations: list[Generation] = [initial]
        self.acts: Mapping[FaultKind, Act] = {
            FaultKind.KILL_INGRESS: lambda fault: self._kill("ingress", fault),
            FaultKind.KILL_DISPATCHER: lambda fault: self._kill("dispatcher-0", fault),
            FaultKind.KILL_CONTROLLER: lambda fault: self._kill("controller", fault),
            FaultKind.FREEZE_DISPATCHER: self._freeze,
            FaultKind.CHURN: self._churn,
            FaultKind.STOP_KAFKA: lambda fault: self._interrupt(server.stop, fault),
            FaultKind.KILL_KAFKA: lambda fault: self._interrupt(server.kill, fault),
            FaultKind.STORM: self._storm,
            FaultKind.RECONFIGURE: self._reconfigure,
        }

    async def _kill(self, name: str, fault: Fault) -> str:
        process = self._system.services[name]
        pid = process.pid
        await asyncio.to_thread(process.kill)
        code = process.returncode
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._system.run, name)
        return f"pid {pid} ended with {code}" if code == -9 else ""

    async def _freeze(self, fault: Fault) -> str:
        process = self._system.services["dispatcher-0"]
        process.freeze()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            process.cont()
        return f"pid {process.pid} stood still for {fault.seconds:g} s"

    async def _churn(self, fault: Fault) -> str:
        name, records, codes = "dispatcher-2", 0, []
        until = time.monotonic() + fault.seconds
        while time.monotonic() < until:
            process = await asyncio.to_thread(self._system.run, name)
            leaves_at = time.monotonic() + CHURN_SECONDS
            await asyncio.to_thread(self._system.wait_until_ready, name)
            await asyncio.to_thread(
                wait_until, lambda: self._records_read(name), JOIN_SECONDS, f"{name} reads records"
            )
            await asyncio.sleep(max(0.0, leaves_at - time.monotonic()))
            records += await asyncio.to_thread(self._records_read, name)
            codes.append(await asyncio.to_thread(process.stop, 20.0))
        if any(codes):
            raise RuntimeError(f"a dispatcher that left ended with {codes}")
        return f"joined and left {len(codes)} times and read {records} records"

    def _records_read(self, name: str) -> int:
        page = self._system.metrics(name)
        found = re.findall(r"^headrace_dispatcher_received_total\S* (\S+)$", page, re.MULTILINE)
        return int(sum(map(float, found)))

    async def _interrupt(self, end: Callable[[], None], fault: Fault) -> str:
        self._server_back_at = None
        await asyncio.to_thread(end)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._server.start)
        self._server_back_at = time.monotonic()
        return "the same data"

    async def _storm(self, fault: Fault) -> str:
        await asyncio.to_thread(self._system.sinks.script, "storm", Script(status=503))
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._system.sinks.script, "storm", Script())
        return "503 for all"

    async def _reconfigure(self, fault: Fault) -> str:
        for number, (manifest, generation) in enumerate(self._changes):
            if number:
                await asyncio.sleep(fault.seconds)
            await self._change(manifest, generation)
        return f"{len(self.generations) - 1} changes Ready"

    async def _change(self, manifest: Manifest, generation: Generation) -> None:
        self.generations.append(generation)
        await asyncio.to_thread(self._persist, manifest)
        until = time.monotonic()
        self.generations[-2] = replace(self.generations[-2], until=until)

    def _persist(self, manifest: Manifest) -> None:
        """Apply a manifest and wait until it is Ready, retrying failed requests."""
        started, applied = time.monotonic(), False
        while True:
            try:
                if not applied:
                    self._system.apply(manifest)
                    applied = True
                self._system.wait_ready(manifest, seconds=LOOK_SECONDS)
                return
            except (AssertionError, Refused, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, Refused) and error.status in (400, 403, 422):
                    raise
                back_at = self._server_back_at
                since = time.monotonic() if back_at is None else max(started, back_at)
                if time.monotonic() - since > API_SECONDS:
                    raise
                time.sleep(0.2)
