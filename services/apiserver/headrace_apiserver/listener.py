"""The API's socket: who may come in, with or without TLS, and the kubeconfig that leads there."""

import asyncio
import resource
import ssl
from pathlib import Path
from typing import Any

import structlog

from headrace.domain.errors import Permanent
from headrace.runtime.health import Health
from headrace_apiserver.asgi import AsgiServer
from headrace_apiserver.authentication import authenticator, is_loopback_address, read_tokens
from headrace_apiserver.chunking import ChunkedResponses
from headrace_apiserver.connection_limiter import CONNECTIONS_MAX, ConnectionLimiter
from headrace_apiserver.connections import ConnectionLimits
from headrace_apiserver.credentials import CertificateProtocol, TlsFiles
from headrace_apiserver.filters import CacheControl
from headrace_apiserver.kubeconfig import (
    choose_kubeconfig_path,
    export_line,
    kubeconfig,
    write_kubeconfig,
)
from headrace_apiserver.server import ApiServer
from headrace_apiserver.tls_handshake import TlsHandshakeProtocol
from headrace_apiserver.token_file import create_token_file, world_readable
from headrace_controller.settings import ControllerSettings

log = structlog.stdlib.get_logger("headrace.controller.api")

_KEEP_ALIVE_SECONDS = 75
"""As long as client libraries keep an idle connection; a closed one costs them a failed request now
and then.
"""
_FILES_ELSEWHERE = 256
"""Files that the process has open beside the API's connections: Kafka's, the management port's,
logs.
"""
_CONNECTIONS_MIN = 64


class ApiListener:
    """A part of a service: the API and its port. Start it after the store."""

    def __init__(self, settings: ControllerSettings, api: ApiServer, health: Health) -> None:
        """Open the socket; raises PortInUse, Unsafe when nobody would guard it, Permanent for files
        that cannot be used.
        """
        self._settings = settings
        self._api = api
        self.kubeconfig: Path | None = None
        """Where the kubeconfig was written, once it is."""
        host, tokens = settings.host, settings.token_file
        tls = TlsFiles(
            certificate=settings.tls_cert_file,
            key=settings.tls_key_file,
            client_ca=settings.client_ca_file,
        ).context()
        if settings.create_token_file:
            self._create_tokens(tokens)
        guard = authenticator(host, token_file=tokens, client_ca_file=settings.client_ca_file)
        names = settings.host_names()
        application = api.application(
            health, guard, names=names if names or is_loopback_address(host) else None
        )
        self._warn(encrypted=tls is not None)
        self._server = AsgiServer(
            ChunkedResponses(CacheControl(application)),
            host=host,
            port=settings.port,
            purpose="the controller's API",
            option="--port",
            tls=tls is not None,
            served_with=http_options(tls=tls),
        )

    @property
    def url(self) -> str:
        """Where the API answers."""
        return self._server.url

    async def start(self) -> None:
        """Follow the store and serve; write the kubeconfig."""
        await self._api.start()
        await self._server.start()
        log.info("the controller's API answers", url=self.url, kinds=len(list(self._api.catalog)))
        if self._settings.kubeconfig_out is not None:
            await self._write_kubeconfig(self._settings.kubeconfig_out)

    async def stop(self) -> None:
        """End watches, close the port. Idempotent."""
        await self._api.stop()
        await self._server.stop()

    def _create_tokens(self, path: Path | None) -> None:
        if path is None:
            raise Permanent(
                "--create-token-file needs --token-file (or HEADRACE_API_TOKEN_FILE), which says"
                " where"
            )
        if create_token_file(path):
            log.info("made a token file; who can read it may use the API", path=str(path))

    def _warn(self, *, encrypted: bool) -> None:
        settings = self._settings
        if (
            settings.token_file is not None
            and not encrypted
            and not is_loopback_address(settings.host)
        ):
            log.warning(
                "tokens travel without TLS: everybody on the way can read and use them; give"
                " --tls-cert-file and --tls-key-file, or keep this network to yourself",
                host=settings.host,
            )
        secrets = {"--token-file": settings.token_file, "--tls-key-file": settings.tls_key_file}
        for option, path in world_readable(secrets).items():
            log.warning(
                "a secret can be read by every user of this machine; chmod it to 0600",
                option=option,
                path=str(path),
            )

    async def _write_kubeconfig(self, wanted: Path) -> None:
        server = _reachable(self.url)
        path = await choose_kubeconfig_path(wanted, server)
        tokens = read_tokens(self._settings.token_file) if self._settings.token_file else {}
        document = kubeconfig(
            server, token=next(iter(tokens), ""), certificate_authority=self._settings.tls_cert_file
        )
        try:
            write_kubeconfig(path, document)
        except Permanent as error:
            # A convenience: on a read-only file system the API serves without.
            log.warning("no kubeconfig was written", error=str(error))
            return
        self.kubeconfig = path
        log.info("kubeconfig written", use=export_line(path))


def http_options(
    limits: ConnectionLimits | None = None,
    limiter: ConnectionLimiter | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """How the API speaks HTTP, as uvicorn takes it.

    uvicorn's own limit counts idle connections too and then refuses everybody, probes included;
    `limiter`, `MaxInFlight` and the watches have theirs.
    """
    limits = limits or ConnectionLimits()
    # Not `or`: an empty room is false.
    connection_limiter = (
        ConnectionLimiter(connections_max=connections_max()) if limiter is None else limiter
    )

    def protocol(**uvicorns: Any) -> asyncio.Protocol:
        inner = CertificateProtocol(limiter=connection_limiter, limits=limits, **uvicorns)
        return (
            inner
            if tls is None
            else TlsHandshakeProtocol(
                inner, tls, connection_limiter, handshake_seconds=limits.head_seconds
            )
        )

    return {
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "limit_concurrency": None,
        "ws": "none",
        "http": protocol,
    }


def connections_max() -> int:
    """As many as there shall be, or as the limit of open files leaves beside everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(_CONNECTIONS_MIN, min(CONNECTIONS_MAX, files - _FILES_ELSEWHERE))


def _reachable(url: str) -> str:
    """The URL by which this machine reaches an API that listens on all of its addresses."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
