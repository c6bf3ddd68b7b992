"""Connecting to a Kubernetes API server: a cluster's, or Headrace's own."""

import ssl
import time
from pathlib import Path

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from headrace.adapters.authorities import accept_plain_authorities
from headrace.domain.errors import Permanent
from headrace.runtime.certificates import load_authorities, load_pair
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CHECK_SECONDS, CredentialFiles, UnusableCertificate

CALL_SECONDS = 10.0


def open_client(
    kubeconfig: Path | None = None, *, context: str | None = None, field_manager: str | None = None
) -> tuple[AsyncClient, str]:
    """Return a client for a kubeconfig, as `read_kubeconfig`, and the URL of the server. Raises
    Permanent.
    """
    single = read_kubeconfig(kubeconfig, context=context)
    try:
        client = AsyncClient(
            single,
            timeout=httpx2.Timeout(CALL_SECONDS),
            field_manager=field_manager,
            transport=_Transport(ApiServerCertificates(single)),
        )
    except (ConfigError, OSError) as error:
        raise Permanent(f"the kubeconfig cannot be used: {error}") from error
    return client, single.cluster.server


def read_kubeconfig(path: Path | None = None, *, context: str | None = None) -> SingleConfig:
    """Return a context of a kubeconfig, by default its current one. Without a path, uses the pod's
    service account, or else $KUBECONFIG or the user's default kubeconfig.

    Raises Permanent that names the option, the file and the next step.
    """
    if path is not None and not path.expanduser().is_file():
        raise Permanent(
            f"--kubeconfig {path}: no such file; name the kubeconfig of a cluster, or for sources"
            " without a cluster the one that the controller writes"
        )
    named = "KUBECONFIG" if path is None else f"--kubeconfig {path}"
    try:
        config = KubeConfig.from_file(path) if path else KubeConfig.from_env()
        found = config.get(context_name=context)
    except (ConfigError, OSError) as error:
        raise Permanent(f"{named}: {error}; {_next_step(path)}") from error
    except Exception:
        # The library does not convert the errors of what it reads files with. They quote the
        # content, which may be a secret.
        raise Permanent(f"{named}: not a kubeconfig; {_next_step(path)}") from None
    if found is None:
        raise Permanent(f"{named}: no current context; {_next_step(path)}")
    return found


def _next_step(path: Path | None) -> str:
    if path is None:
        return "set --kubeconfig, or run in a pod with a service account"
    return f"`kubectl config get-contexts --kubeconfig {path}` shows what is in it"


class ApiServerCertificates:
    """The TLS settings for an API server: its authority, and the client's certificate. They are
    renewed with the files that the kubeconfig names.

    The context stays the same, because the client library keeps it. An authority that is no longer
    in its file is trusted until the process ends.
    """

    def __init__(self, config: SingleConfig) -> None:
        """Raises Permanent."""
        user = config.user or User()
        named = {
            FileKind.AUTHORITIES: config.cluster.certificate_auth,
            FileKind.CERTIFICATE: user.client_cert,
            FileKind.KEY: user.client_key,
        }
        self._paths = {
            kind: Path(config.abs_file(name)) for kind, name in named.items() if name is not None
        }
        self._files = CredentialFiles(
            "the API server",
            [CredentialFile("kubeconfig", path, kind) for kind, path in self._paths.items()],
            lambda: _tls_context(config),
        )
        self._files.renewing(self._use)
        self._checked_at = time.monotonic()
        self.context = self._files.value

    async def refresh(self) -> None:
        """Read the files again if that was not done for a while. Call it before a request; never
        raises.
        """
        now = time.monotonic()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            await self._files.check()

    def _use(self, _new: ssl.SSLContext) -> None:
        """Load the files, of which a new context could be made."""
        try:
            authorities = self._paths.get(FileKind.AUTHORITIES)
            if authorities is not None:
                load_authorities(self.context, authorities)
            certificate = self._paths.get(FileKind.CERTIFICATE)
            if certificate is not None:
                load_pair(self.context, certificate, self._paths.get(FileKind.KEY, certificate))
        except ValueError as error:
            raise UnusableCertificate(str(error)) from error


class _Transport(httpx2.AsyncHTTPTransport):
    def __init__(self, certificates: ApiServerCertificates) -> None:
        super().__init__(verify=certificates.context)
        self._certificates = certificates

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self._certificates.refresh()
        return await super().handle_async_request(request)


def _tls_context(config: SingleConfig) -> ssl.SSLContext:
    try:
        return accept_plain_authorities(
            verify_cluster(config.cluster, config.user or User(), config.abs_file)
        )
    except (ConfigError, OSError) as error:
        raise Permanent(f"the kubeconfig cannot be used: {error}") from error
