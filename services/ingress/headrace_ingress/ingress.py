"""The ingress: an HTTP server in front of a log, as one component of a process.

The caller passes the adapters, so that one process can run the ingress together with the other
services; `headrace_ingress.app` creates them for a separate process. The port accepts connections
from the start. Until the routing table has been read and the log has stored a first record,
requests get a 503.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import structlog

from headrace.adapters.http.server import HttpServer, LocalGuard
from headrace.adapters.http.server_local_guard import is_local_bind
from headrace.domain.event_schemas import SchemaCompiler
from headrace.domain.ports import Instances, Log, RoutingReader
from headrace.runtime.certificates import load_pair
from headrace.runtime.clock import SystemClock
from headrace.runtime.connection_metrics import measure_connections
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CredentialFiles
from headrace.runtime.heartbeat import Heartbeat, instance_name
from headrace.runtime.metrics import Metrics
from headrace.runtime.open_files import connections_within
from headrace.runtime.retry import retry_until_success
from headrace.runtime.settings import BadSettings
from headrace.runtime.sockets import http_url, listen, port_of
from headrace.runtime.tracing import Tracing
from headrace_ingress.metrics import IngressMetrics
from headrace_ingress.receiver import EventReceiver
from headrace_ingress.route_cache import HOSTS_SETTING
from headrace_ingress.settings import IngressSettings
from headrace_ingress.traced_handler import traced

logger = structlog.get_logger(__name__)

_FIRST_TRY_SECONDS = 10.0


class Ingress:
    """A component of a service (`headrace.runtime.service.Component`, with `drain`). The caller
    starts and stops the log.
    """

    def __init__(
        self,
        settings: IngressSettings,
        *,
        log: Log,
        routes: RoutingReader,
        metrics: Metrics,
        instances: Instances | None = None,
        instance_id: str | None = None,
        warm_up: Callable[[float], Awaitable[None]] | None = None,
        listener: socket.socket | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`warm_up(seconds)` makes the log ready for its first record; `listener` is a bound socket
        to use instead of opening one.

        Raises `PortInUse`, and `BadSettings` for a certificate that cannot be used.
        """
        self._settings = settings
        self._log = log
        self._routes = routes
        self._warm_up = warm_up
        self._reason: str | None = "still starting"
        self._tls = _tls(settings)
        """What renews the certificate; None for plain HTTP."""
        self._metrics = IngressMetrics(metrics)
        self._receiver = EventReceiver(
            settings,
            log=log,
            routes=routes,
            metrics=self._metrics,
            not_ready=self.not_ready,
            load_schema_compiler=load_schema_compiler,
        )
        limits = settings.limits()
        connections = connections_within(
            limits.connections_max, setting="HEADRACE_INGRESS_CONNECTIONS_MAX"
        )
        handle = self._receiver.handle
        self._server = HttpServer(
            handle if tracing is None else traced(handle, tracing),
            admit=self._receiver.admit,
            refused=self._receiver.refused,
            limits=replace(limits, connections_max=connections),
            guard=_guard(settings, self._receiver),
        )
        measure_connections(metrics, "ingress", self._server)
        self._heartbeat = (
            None
            if instances is None
            else Heartbeat(
                "ingress",
                instance_id=instance_id or instance_name("ingress"),
                instances=instances,
                routes=routes,
                clock=SystemClock(),
                types=self._receiver.observed_types.next_batch,
                schema_faults=self._current_schema_faults,
            )
        )
        self._preparing: asyncio.Task[None] | None = None
        self._listener = listener or listen(
            settings.host, settings.port, purpose="the ingress", option="--port"
        )
        self.port = port_of(self._listener)
        metrics.before_scrape(self._update_gauges)

    @property
    def url(self) -> str:
        """The URL to post events to."""
        return http_url(self._settings.host, self.port, tls=self._tls is not None)

    def not_ready(self) -> str | None:
        """Return why events are not accepted yet, None when they are. A check for
        `headrace.runtime.health`.
        """
        return self._reason

    def unacknowledged_since(self) -> str | None:
        """Return since when Kafka has stored nothing, None while it stores records. A check for
        `headrace.runtime.health`.

        Separate from `not_ready`: the ingress still tries to store events in an outage, so that the
        first event after it is accepted.
        """
        return self._heartbeat.unacknowledged_since() if self._heartbeat is not None else None

    def ready(self) -> bool:
        """Return whether events are accepted."""
        return self._reason is None

    async def start(self) -> None:
        """Accept connections. The ingress is ready when this returns if Kafka answers within 10 s;
        otherwise it keeps trying in the background.
        """
        if self._tls is None:
            await self._server.start(self._listener)
        else:
            await self._tls.start()
            await self._server.start(self._listener, tls=self._tls.current)
        self._preparing = asyncio.create_task(self._prepare(), name="ingress prepares")
        await asyncio.wait({self._preparing}, timeout=_FIRST_TRY_SECONDS)

    async def drain(self) -> None:
        """Close idle connections, answer requests in flight, and wait until all appended records
        are stored. Idempotent.
        """
        self._reason = "draining"
        self._server.enter_lame_duck()
        await self._stop_preparing("draining")
        await self._server.stop()
        left = await self._log.flush(self._settings.produce_seconds)
        if left:
            logger.warning(
                "events_not_stored_at_shutdown",
                events=left,
                next_step="none: no sender got a 202 for them",
            )

    async def stop(self) -> None:
        """Close the port and the routing reader. Idempotent."""
        await self._stop_preparing("stopped")
        await self._server.stop()
        if self._tls is not None:
            await self._tls.stop()
        self._listener.close()
        self._receiver.close()
        if self._heartbeat is not None:
            await self._heartbeat.stop()
        await self._routes.stop()

    async def _stop_preparing(self, reason: str) -> None:
        self._reason = reason
        task, self._preparing = self._preparing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _prepare(self) -> None:
        """Become ready: read the routing table to its end and warm up the producer."""
        self._set_not_ready("the routing table has not been read to its end")
        await retry_until_success(self._routes.start, waiting=self._set_not_ready)
        if self._heartbeat is not None:
            await self._heartbeat.start()
        if (warm_up := self._warm_up) is not None:
            self._set_not_ready("the log has not been reached")
            await retry_until_success(
                lambda: warm_up(_FIRST_TRY_SECONDS), waiting=self._set_not_ready
            )
        self._reason = None

    def _set_not_ready(self, reason: str) -> None:
        self._reason = reason

    def _current_schema_faults(self) -> Mapping[str, str]:
        return self._receiver.schema_faults.current(time.monotonic())

    def _update_gauges(self) -> None:
        self._metrics.in_flight.set(self._receiver.in_flight)


def load_schema_compiler() -> SchemaCompiler:
    """Import the validator of schemas: 15 MiB of code, which only an ingress with schemas needs."""
    from headrace.adapters.json_schema.compiler import compile_schema

    return compile_schema


def _guard(settings: IngressSettings, receiver: EventReceiver) -> LocalGuard | None:
    """Return the check of browser header fields, which applies to loopback addresses only. Host is
    checked later, because the hosts in the routing table are allowed too.
    """
    if not is_local_bind(settings.host):
        return None
    return LocalGuard(receiver.route_cache.allowed_hosts, setting=HOSTS_SETTING, judge_host=False)


def _tls(settings: IngressSettings) -> CredentialFiles[ssl.SSLContext] | None:
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        return None
    names = "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE", "HEADRACE_INGRESS_TLS_KEY_FILE"

    def load() -> ssl.SSLContext:
        # A new context each time: one in which only the certificate was loaded could not be used.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            load_pair(context, certificate, key)
        except ValueError as error:
            raise BadSettings(f"{names[0]} and its key cannot be used: {error}", *names) from error
        return context

    files = (
        CredentialFile(names[0], certificate, FileKind.CERTIFICATE),
        CredentialFile(names[1], key, FileKind.KEY),
    )
    return CredentialFiles("HTTPS of the ingress", files, load)
