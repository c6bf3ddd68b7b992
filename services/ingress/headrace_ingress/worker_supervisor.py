"""The parent of several ingress processes: it reserves the port, and starts, restarts and stops the
workers.

Each worker listens on its own socket on the same port (SO_REUSEPORT), so the kernel distributes
connections evenly. The parent's socket is bound but does not listen, which keeps the port reserved
while no worker runs. Workers are new processes, not forks.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from headrace.domain.backoff import Backoff
from headrace.runtime import exec_settings
from headrace.runtime.metrics import forget_process
from headrace.runtime.settings import KafkaSettings, LogSettings, NatsSettings
from headrace.runtime.sockets import http_url, listen, port_of
from headrace_ingress.settings import IngressSettings
from headrace_ingress.worker_process import HEARTBEAT_SECONDS

logger = structlog.get_logger(__name__)

_UNRESPONSIVE_SECONDS: Final = 20 * HEARTBEAT_SECONDS
"""A worker that has reported nothing for this long, and that its own watchdog has not ended, is
killed and replaced.
"""
_BACKOFF: Final = Backoff((0.1, 0.5, 1.0, 2.0, 5.0))
_STABLE_SECONDS: Final = 10.0
"""A worker that ran for this long is replaced after the shortest backoff when it exits."""
_READY_SECONDS: Final = 15.0
_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared_metrics() -> Iterator[None]:
    """Set up a directory in which the metrics of this process and its workers are summed."""
    directory = Path(tempfile.mkdtemp(prefix="headrace-metrics-"))
    before = os.environ.get(_METRICS_VARIABLE)
    os.environ[_METRICS_VARIABLE] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_METRICS_VARIABLE]
        else:
            os.environ[_METRICS_VARIABLE] = before
        shutil.rmtree(directory, ignore_errors=True)


class _WorkerSlot:
    """A slot for one worker, with its current process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.reason: str | None = "starting"
        self.failures = 0


class WorkerSupervisor:
    """Keeps the workers running; a component of the parent's service."""

    def __init__(
        self,
        settings: IngressSettings,
        kafka: KafkaSettings,
        nats: NatsSettings,
        logs: LogSettings,
    ) -> None:
        """Reserve the port. Raises `PortInUse`, also when another group of workers uses it."""
        self._socket = _reserve_port(settings.host, settings.port)
        self.port = port_of(self._socket)
        self.url = http_url(settings.host, self.port, tls=settings.tls_certificate_file is not None)
        """The URL to post events to."""
        self._settings_document = exec_settings.write(
            own=replace(settings, port=self.port), kafka=kafka, nats=nats, logs=logs
        )
        self._drain_seconds = settings.drain_seconds + settings.produce_seconds
        # Later than the worker's own watchdog, which reports where the loop is blocked.
        self._unresponsive_seconds = max(
            _UNRESPONSIVE_SECONDS,
            settings.watchdog_seconds + 10.0 if settings.watchdog_seconds else 0.0,
        )
        self._workers = [_WorkerSlot(number) for number in range(settings.workers)]
        self.exits = 0
        """Workers that have ended and were started again."""
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()
        self._ending = asyncio.Event()

    def not_ready(self) -> str | None:
        """Return why no worker accepts events, None while at least one does: the kernel gives
        connections to workers that listen.
        """
        if any(worker.reason is None for worker in self._workers):
            return None
        return f"no worker is ready; the first says: {self._workers[0].reason}"

    async def start(self) -> None:
        """Start all workers. Returns when all are ready, after at most 15 s."""
        self._tasks = [
            asyncio.create_task(self._keep_running(worker), name=f"ingress worker {worker.number}")
            for worker in self._workers
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                await self._ready.wait()

    async def drain(self) -> None:
        """Stop all workers; each answers its requests in flight. Idempotent."""
        self._ending.set()
        for worker in self._workers:
            _signal(worker, signal.SIGTERM)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._drain_seconds)
            if late:
                logger.warning("workers_killed_at_drain_deadline", workers=len(late))

    async def stop(self) -> None:
        """Kill remaining workers and close the port. Idempotent."""
        self._ending.set()
        for worker in self._workers:
            _signal(worker, signal.SIGKILL)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_UNRESPONSIVE_SECONDS)
        self._socket.close()

    async def _keep_running(self, worker: _WorkerSlot) -> None:
        """Run one worker process after another in this slot until shutdown."""
        while not self._ending.is_set():
            started = asyncio.get_running_loop().time()
            await self._run_process(worker)
            if self._ending.is_set():
                return
            settled = asyncio.get_running_loop().time() - started > _STABLE_SECONDS
            worker.failures = 1 if settled else worker.failures + 1
            await asyncio.sleep(_BACKOFF.seconds(worker.failures))

    async def _run_process(self, worker: _WorkerSlot) -> None:
        """Start a worker process and wait until it exits."""
        ours, theirs = os.pipe()
        try:
            # In a separate session: otherwise Ctrl-C on a terminal would reach the worker in
            # addition to the parent's signal, and a second signal means immediate exit.
            worker.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "headrace_ingress",
                "0",
                str(theirs),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(ours)
            logger.error("worker_start_failed", worker=worker.number, error=str(error))
            return
        finally:
            os.close(theirs)
        process = worker.process
        try:
            if self._ending.is_set():
                _signal(worker, signal.SIGTERM)
            if process.stdin is not None:
                process.stdin.write(self._settings_document)
            await self._read_reports(worker, ours)
            code = await process.wait()
        finally:
            worker.process, worker.reason = None, "restarting"
            forget_process(process.pid)
        if not self._ending.is_set():
            self.exits += 1
            logger.error(
                "worker_exited",
                worker=worker.number,
                pid=process.pid,
                exit_code=code,
                next_step="none: it is restarted",
            )

    async def _read_reports(self, worker: _WorkerSlot, descriptor: int) -> None:
        """Read the reports of a worker until it exits; kill a worker that stops reporting."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=65_536)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        unresponsive_seconds = 0.0
        try:
            while unresponsive_seconds < self._unresponsive_seconds:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        line = await reader.readline()
                except TimeoutError:
                    # Short steps: a suspension of the whole machine counts as one step.
                    unresponsive_seconds += HEARTBEAT_SECONDS
                    continue
                if not line:
                    return
                unresponsive_seconds, worker.reason = 0.0, json.loads(line) or None
                if all(each.reason is None for each in self._workers):
                    self._ready.set()
            logger.error(
                "worker_unresponsive",
                worker=worker.number,
                next_step="none: it is killed and restarted",
            )
            _signal(worker, signal.SIGKILL)
        finally:
            transport.close()


def _signal(worker: _WorkerSlot, number: signal.Signals) -> None:
    if worker.process is not None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(number)


def _reserve_port(host: str, port: int) -> socket.socket:
    """Bind the port with SO_REUSEPORT, without listening."""
    # Bind without SO_REUSEPORT first: with it, a second ingress could bind the same port, and each
    # would get half of the events.
    alone = listen(host, port, purpose="the ingress", option="--port")
    address = alone.getsockname()
    alone.close()
    reserved = socket.socket(alone.family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(address)
    return reserved
