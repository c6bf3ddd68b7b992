"""Reads single Secrets, for data plane processes, which know no other resources."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from lightkube import ApiError
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericNamespacedResource

from headrace.adapters.kubernetes.connection import open_client
from headrace.domain.errors import Permanent, Temporary

_NOT_FOUND = 404


class _Secret(GenericNamespacedResource):
    # Not the library's model, which decodes nothing and leaves fields out.
    _api_info = ApiInfo(
        resource=ResourceDef("", "v1", "Secret"), plural="secrets", verbs=["get"], action=None
    )


class SecretApi:
    """Secrets of an API server. Reads the kubeconfig when it is created, and connects at the first
    use.
    """

    def __init__(self, kubeconfig: Path | None = None, *, context: str | None = None) -> None:
        """As `open_client`. Raises Permanent."""
        self._client, _ = open_client(kubeconfig, context=context)

    async def read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Secret as JSON, None if there is none.

        Raises Permanent if this process may not read it, and Temporary if the server does not
        answer.
        """
        where = f"Secret {namespace}/{name}"
        try:
            found = await self._client.get(_Secret, name, namespace=namespace)
        except ApiError as error:
            if error.status.code == _NOT_FOUND:
                return None
            message = error.status.message or str(error)
            raise Permanent(
                f"{where}: {message}; this process needs the rule"
                ' {apiGroups: [""], resources: [secrets], verbs: [get]}'
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise Temporary(
                f"{where}: the Kubernetes API server did not answer"
                f" ({type(error).__name__}: {error})"
            ) from error
        return dict(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
