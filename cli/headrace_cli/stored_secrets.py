"""The Secrets of `headrace up`, which has their store in the same process."""

from collections.abc import Sequence
from pathlib import Path

from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Reference
from headrace_sources.secrets import SecretData, decode


class StoredSecrets:
    """Implements `headrace_sources.secrets.SecretReader`."""

    def __init__(self, store: ResourceStore, roots: Sequence[Path]) -> None:
        """`roots`: see `headrace_sources.secrets.decode`."""
        self._store = store
        self._roots = roots

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """See the port."""
        found = self._store.find(Reference("v1", "Secret", namespace, name))
        return None if found is None else decode(found.object, self._roots)

    async def close(self) -> None:
        """See the port."""
