"""As whom a source reads: with a token of its service account, or as the sources service."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from headrace.adapters.kubernetes.watcher import Refused, WatchApi
from headrace.domain.errors import NotFound
from headrace_sources.adapters.kubernetes.config import KubernetesConfig
from headrace_sources.adapters.kubernetes.permissions import SUFFICIENT_PERMISSIONS
from headrace_sources.source import SourceFault

logger = structlog.get_logger(__name__)

DEFAULT_ACCOUNT: Final = "default"
RENEW_AT: Final = 0.8
"""Share of its life after which a token is replaced, as the kubelet does."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A client, and the time of the event loop until which it may be used; None: always."""

    api: WatchApi
    until: float | None = None


async def identify(own: WatchApi, config: KubernetesConfig, namespace: str) -> Identity:
    """Return the identity of a source in this namespace.

    Where this process may not request tokens, or the API server has none (Headrace's own), that is
    the process itself. Raises SourceFault for a service account that does not exist.
    """
    account = config.service_account_name or DEFAULT_ACCOUNT
    try:
        token = await own.request_token(namespace, account)
    except Refused as error:
        logger.info("own_identity_used", namespace=namespace, account=account, reason=str(error))
        return Identity(own)
    except NotFound as error:
        # An API server that knows the request names the account.
        if account != DEFAULT_ACCOUNT and f'"{account}" not found' in str(error):
            raise SourceFault(
                "ServiceAccountNotFound",
                f"ServiceAccount {namespace}/{account} does not exist; create it, or correct"
                " spec.serviceAccountName",
                condition=SUFFICIENT_PERMISSIONS,
            ) from error
        return Identity(own)
    loop = asyncio.get_running_loop()
    return Identity(own.as_bearer(token.value), loop.time() + RENEW_AT * token.seconds)
