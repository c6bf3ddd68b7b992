"""Secrets, which sources refer to: read when they are needed, checked for changes while they are in
use, never stored.
"""

import asyncio
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from headrace.domain.errors import HeadraceError
from headrace.runtime.tasks import end_task
from headrace_sources.settings import DATA_DIRECTORIES_SETTING
from headrace_sources.source import SecretKeyRef, SourceFault

logger = structlog.get_logger(__name__)

CHECK_SECONDS: Final = 10.0
"""How often the Secrets in use are read again."""
FROM_ANNOTATION: Final = "headrace.dev/data-from"
FILES_MAX: Final = 100
FILE_BYTES_MAX: Final = 1_048_576
_NOT_FOUND: Final = "SecretNotFound"
_UNREADABLE: Final = "SecretUnreadable"


@dataclass(frozen=True, slots=True)
class SecretData:
    """The data of a Secret, decoded. `version` changes with it."""

    version: str
    data: Mapping[str, bytes] = field(repr=False)


class SecretReader(Protocol):
    """Reads Secrets from where this process has access to them."""

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """Return a Secret; None if there is none. Raises a `HeadraceError` if it cannot be read."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def decode(document: Mapping[str, Any], roots: Sequence[Path] = ()) -> SecretData:
    """Return the data of a Secret as the API has it. With the annotation `headrace.dev/data-from`,
    the values are the files in that directory, which must be below one of `roots`: without this
    limit, who may write Secrets could read every file of this process. Raises `SourceFault` if it
    cannot be read.
    """
    metadata = document.get("metadata") or {}
    version = str(metadata.get("resourceVersion") or "")
    named = (metadata.get("annotations") or {}).get(FROM_ANNOTATION)
    if named:
        directory = Path(str(named)).resolve()
        if not any(directory.is_relative_to(each) for each in roots):
            raise SourceFault(
                _UNREADABLE,
                f"annotation {FROM_ANNOTATION} names {str(named)[:200]}, which this service may not"
                f" read; an operator allows it with {DATA_DIRECTORIES_SETTING}",
            )
        return _read_directory(directory, version)
    data = document.get("data") or {}
    return SecretData(version, {str(key): b64decode(str(value)) for key, value in data.items()})


def _read_directory(directory: Path, version: str) -> SecretData:
    try:
        files = [each for each in directory.iterdir() if each.is_file()][:FILES_MAX]
        large = next((each for each in files if each.stat().st_size > FILE_BYTES_MAX), None)
        if large is not None:
            raise SourceFault(
                _UNREADABLE, f"{large} is larger than the {FILE_BYTES_MAX} bytes of a Secret"
            )
        data = {each.name: each.read_bytes() for each in files}
    except OSError as error:
        raise SourceFault(
            _UNREADABLE,
            f"the directory in annotation {FROM_ANNOTATION} cannot be read: {error}",
        ) from None
    digest = sha256(repr(sorted(data.items())).encode()).hexdigest()
    return SecretData(f"{version}/{digest}", data)


class NoSecrets:
    """Implements `SecretReader` for a process that has access to none."""

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """Raise `SourceFault` that says how to give access."""
        raise SourceFault(
            _UNREADABLE,
            f"the sources service has no access to Secret {namespace}/{name}; start it with"
            " --kubeconfig, or in a cluster with --kubernetes",
        )

    async def close(self) -> None:
        """See the port."""


class ReadObject(Protocol):
    """Reads Secrets as the API has them."""

    async def read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return a Secret as JSON, None if there is none."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ApiSecrets:
    """Implements `SecretReader` with an API server."""

    def __init__(self, api: ReadObject, roots: Sequence[Path] = ()) -> None:
        """`roots`: see `decode`."""
        self._api = api
        self._roots = roots

    async def read(self, namespace: str, name: str) -> SecretData | None:
        """See the port."""
        found = await self._api.read(namespace, name)
        return None if found is None else decode(found, self._roots)

    async def close(self) -> None:
        """See the port."""
        await self._api.close()


class Secrets:
    """The Secrets that the sources of this process use. A component of the service."""

    def __init__(self, reader: SecretReader) -> None:
        self._reader = reader
        self._used: dict[tuple[str, str], dict[str, Callable[[], None]]] = {}
        """By Secret, what to call when it changes, by uid of the source."""
        self._versions: dict[tuple[str, str], str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for changes."""
        self._task = asyncio.create_task(self._check(), name="secrets")

    async def stop(self) -> None:
        """Stop looking for changes."""
        task, self._task = self._task, None
        await end_task(task)
        await self._reader.close()

    async def read(
        self, namespace: str, reference: SecretKeyRef, uid: str, changed: Callable[[], None]
    ) -> bytes:
        """Return one value, and call `changed` when it may have another one. Raises
        `SourceFault`.
        """
        key = (namespace, reference.name)
        self._used.setdefault(key, {})[uid] = changed
        try:
            found = await self._reader.read(namespace, reference.name)
        except SourceFault:
            raise
        except HeadraceError as error:
            raise SourceFault(
                _UNREADABLE, f"Secret {namespace}/{reference.name} cannot be read: {error}"
            ) from None
        self._versions[key] = found.version if found is not None else ""
        if found is None:
            raise SourceFault(
                _NOT_FOUND,
                f"Secret {namespace}/{reference.name} does not exist; create it",
            )
        if reference.key not in found.data:
            present = ", ".join(sorted(found.data)[:10]) or "none"
            raise SourceFault(
                _NOT_FOUND,
                f"Secret {namespace}/{reference.name} has no key {reference.key[:100]}; its keys:"
                f" {present}",
            )
        return found.data[reference.key]

    def forget(self, uid: str) -> None:
        """The source does not use any Secret now."""
        for key, users in list(self._used.items()):
            users.pop(uid, None)
            if not users:
                del self._used[key]
                self._versions.pop(key, None)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for key in list(self._used):
                try:
                    found = await self._reader.read(*key)
                except HeadraceError as error:
                    # The value that was read before stays in use.
                    logger.warning("secret_unreadable", secret="/".join(key), error=str(error))
                    continue
                version = found.version if found is not None else ""
                if version != self._versions.get(key, version):
                    self._versions[key] = version
                    for changed in list(self._used.get(key, {}).values()):
                        changed()
