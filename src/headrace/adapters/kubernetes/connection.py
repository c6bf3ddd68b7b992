"""Connecting to a Kubernetes API server: a cluster's, or Headrace's own."""

import ssl
from pathlib import Path

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from headrace.adapters.authorities import accept_plain_authorities
from headrace.domain.errors import Permanent

CALL_SECONDS = 10.0


def open_client(
    kubeconfig: Path | None = None, *, context: str | None = None, field_manager: str | None = None
) -> tuple[AsyncClient, str]:
    """Return a client for this kubeconfig, and the URL of the server. Without one, uses the pod's
    service account, or else $KUBECONFIG or the user's default kubeconfig. Raises Permanent.
    """
    try:
        config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
        single = config.get(context_name=context)
        if single is None:
            raise Permanent(
                "no Kubernetes API server is configured: set --kubeconfig, or run in a pod with a"
                " service account"
            )
        client = AsyncClient(
            single,
            timeout=httpx2.Timeout(CALL_SECONDS),
            field_manager=field_manager,
            transport=httpx2.AsyncHTTPTransport(verify=tls_context(single)),
        )
    except (ConfigError, OSError) as error:
        raise Permanent(f"the kubeconfig cannot be used: {error}") from error
    return client, single.cluster.server


def tls_context(config: SingleConfig) -> ssl.SSLContext:
    """Return the TLS settings for an API server: its authority, and the client's certificate.

    Raises ConfigError or OSError.
    """
    return accept_plain_authorities(
        verify_cluster(config.cluster, config.user or User(), config.abs_file)
    )
