"""The API server on a socket: TLS, authentication, and the kubeconfig for its clients."""

import asyncio
import resource
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from headrace.domain.errors import Permanent
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CredentialFiles
from headrace.runtime.health import Health
from headrace_apiserver.asgi import AsgiServer
from headrace_apiserver.authentication import (
    CredentialsAuthenticator,
    User,
    create_authenticator,
    is_loopback_address,
    read_tokens,
)
from headrace_apiserver.chunking import ChunkedResponses
from headrace_apiserver.connection_limiter import CONNECTIONS_MAX, ConnectionLimiter
from headrace_apiserver.connections import ConnectionLimits
from headrace_apiserver.credentials import CertificateProtocol, ServingCertificate, TlsFiles
from headrace_apiserver.filters import CacheControl
from headrace_apiserver.kubeconfig import (
    choose_kubeconfig_path,
    export_line,
    kubeconfig,
    write_kubeconfig,
)
from headrace_apiserver.server import ApiServer
from headrace_apiserver.server_options import ApiServerOptions
from headrace_apiserver.tls_handshake import TlsHandshakeProtocol
from headrace_apiserver.token_file import create_token_file, world_readable

logger = structlog.get_logger(__name__)

_KEEP_ALIVE_SECONDS = 75
"""As long as client libraries keep an idle connection. Closing earlier would now and then cost a
client a failed request.
"""
_OTHER_FILES = 256
"""Files that the process has open besides the connections of the API: Kafka, the management port,
logs.
"""
_CONNECTIONS_MIN = 64


class ApiListener:
    """A part of a service: the API server and its port. Start it after the store."""

    def __init__(self, options: ApiServerOptions, api: ApiServer, health: Health) -> None:
        """Open the socket. Raises PortInUse, InsecureListener if nothing would authenticate
        clients, and Permanent for a file that cannot be used.
        """
        self._options = options
        self._api = api
        self.kubeconfig: Path | None = None
        """The kubeconfig, once it is written."""
        tls = TlsFiles(
            certificate=options.tls_cert_file,
            key=options.tls_key_file,
            client_ca=options.client_ca_file,
        ).renewed()
        if options.create_token_file:
            _create_token_file(options.token_file)
        authenticator = create_authenticator(
            options.host, token_file=options.token_file, client_ca_file=options.client_ca_file
        )
        checks_host = bool(options.host_names) or is_loopback_address(options.host)
        application = api.application(
            health, authenticator, names=options.host_names if checks_host else None
        )
        _warn_of_exposed_secrets(options, encrypted=tls is not None)
        self._server = AsgiServer(
            ChunkedResponses(CacheControl(application)),
            host=options.host,
            port=options.port,
            purpose="the controller's API",
            option="--port",
            tls=tls is not None,
            uvicorn_options=http_options(tls=None if tls is None else lambda: tls.value.context),
        )
        self._tls = tls
        self._tokens: CredentialFiles[dict[str, User]] | None = None
        if tls is not None:
            tls.renewing(self._on_certificate_renewed)
        if options.token_file is not None and isinstance(authenticator, CredentialsAuthenticator):
            self._tokens = self._renewed_tokens(options.token_file, authenticator)
        self._credentials: list[CredentialFiles[Any]] = [
            each for each in (self._tls, self._tokens) if each is not None
        ]

    @property
    def url(self) -> str:
        """The URL of the API."""
        return self._server.url

    async def start(self) -> None:
        """Follow the store and serve; write the kubeconfig."""
        await self._api.start()
        await self._server.start()
        for each in self._credentials:
            await each.start()
        logger.info("api_started", url=self.url, kinds=len(list(self._api.catalog)))
        if self._options.kubeconfig_out is not None:
            path = await choose_kubeconfig_path(self._options.kubeconfig_out, _local_url(self.url))
            if self._write_kubeconfig(path):
                self.kubeconfig = path
                logger.info("kubeconfig_written", path=str(path), next_step=export_line(path))

    async def stop(self) -> None:
        """End watches, close the port. Idempotent."""
        await self._api.stop()
        await self._server.stop()
        for each in self._credentials:
            await each.stop()

    def _renewed_tokens(
        self, file: Path, authenticator: CredentialsAuthenticator
    ) -> CredentialFiles[dict[str, User]]:
        """The tokens of a file, which are accepted from when they are in it until they are not."""

        def use(tokens: dict[str, User]) -> None:
            authenticator.use(tokens)
            self._renew_kubeconfig()

        tokens = CredentialFiles(
            "tokens of the controller's API",
            [CredentialFile("--token-file", file, FileKind.SECRET)],
            lambda: read_tokens(file),
        )
        tokens.renewing(use)
        authenticator.use(tokens.value)
        return tokens

    def _on_certificate_renewed(self, _certificate: ServingCertificate) -> None:
        self._renew_kubeconfig()

    def _renew_kubeconfig(self) -> None:
        """Write the kubeconfig again: it has the certificate and a token, those in use. What the
        files contain may be newer, and may turn out to be unusable.
        """
        if self.kubeconfig is not None:
            self._write_kubeconfig(self.kubeconfig)

    def _write_kubeconfig(self, path: Path) -> bool:
        document = kubeconfig(
            _local_url(self.url),
            token="" if self._tokens is None else next(iter(self._tokens.value), ""),
            certificate_authority=None if self._tls is None else self._tls.value.pem,
        )
        try:
            write_kubeconfig(path, document)
        except Permanent as error:
            # The file is a convenience: on a read-only file system the API serves without it.
            logger.warning("kubeconfig_not_written", error=str(error))
            return False
        return True


def _create_token_file(path: Path | None) -> None:
    if path is None:
        raise Permanent(
            "--create-token-file needs the path of the file: set --token-file (or"
            " HEADRACE_API_TOKEN_FILE)"
        )
    if create_token_file(path):
        logger.info("token_file_created", path=str(path))


def _warn_of_exposed_secrets(options: ApiServerOptions, *, encrypted: bool) -> None:
    if options.token_file is not None and not encrypted and not is_loopback_address(options.host):
        logger.warning(
            "tokens_sent_without_tls",
            host=options.host,
            next_step="set --tls-cert-file and --tls-key-file, or use a network that only you"
            " can read",
        )
    secrets = {"--token-file": options.token_file, "--tls-key-file": options.tls_key_file}
    for option, path in world_readable(secrets).items():
        logger.warning(
            "secret_file_world_readable", option=option, path=str(path), next_step="chmod 0600"
        )


def http_options(
    limits: ConnectionLimits | None = None,
    limiter: ConnectionLimiter | None = None,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> dict[str, Any]:
    """The options of uvicorn for the API. `tls` is called for each connection.

    uvicorn's own limit also counts idle connections, and at the limit it rejects every request,
    probes included. `limiter`, `MaxInFlight` and the watches have limits of their own instead.
    """
    limits = limits or ConnectionLimits()
    # Not `or`: an empty limiter is false.
    connection_limiter = (
        ConnectionLimiter(connections_max=connections_max()) if limiter is None else limiter
    )

    def protocol(**options: Any) -> asyncio.Protocol:
        inner = CertificateProtocol(limiter=connection_limiter, limits=limits, **options)
        return (
            inner
            if tls is None
            else TlsHandshakeProtocol(
                inner, tls(), connection_limiter, handshake_seconds=limits.head_seconds
            )
        )

    return {
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
        "limit_concurrency": None,
        "ws": "none",
        "http": protocol,
    }


def connections_max() -> int:
    """`CONNECTIONS_MAX`, or fewer if the process may not open that many files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(_CONNECTIONS_MIN, min(CONNECTIONS_MAX, files - _OTHER_FILES))


def _local_url(url: str) -> str:
    """The URL by which this machine reaches an API that listens on all addresses."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
