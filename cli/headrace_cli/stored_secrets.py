"""The Secrets of `headrace up`, which has their store in the same process."""

from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Reference
from headrace_sources.secrets import SecretData, decode


class StoredSecrets:
    """Implements `headrace_sources.secrets.SecretReader`."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """See the port."""
        found = self._store.find(Reference("v1", "Secret", namespace, name))
        return None if found is None else decode(found.object)

    async def close(self) -> None:
        """See the port."""
