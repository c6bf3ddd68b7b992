"""The lease of an exclusive feed: a key that its owner renews and that expires without it.

The server counts the time from when it stored the entry. The owner counts from before it sent it,
and gives up a second earlier than the entry expires, so two processes are never both owner. Times
are on the clock of the event loop.
"""

import asyncio
from typing import Final

from headrace.adapters.nats.errors import ApiError
from headrace.adapters.nats.groups import LEASE_SECONDS, MEMBERS, Buckets
from headrace.domain.errors import LogUnavailable

RENEW_SECONDS: Final = 2.0
UNCONFIRMED_SECONDS: Final = 3.0
LOST_SECONDS: Final = LEASE_SECONDS - 1.0
_REQUEST_SECONDS: Final = 1.0


class Lease:
    """Whether this feed is the owner of one group in one topic."""

    def __init__(self, buckets: Buckets, key: str, owner: str) -> None:
        self._buckets = buckets
        self._key = f"owner.{key}"
        self._owner = owner.encode()
        self._revision = 0
        self._confirmed_at: float | None = None

    @property
    def held(self) -> bool:
        """Whether no other process can be the owner."""
        return self._age() < LOST_SECONDS

    @property
    def unconfirmed(self) -> bool:
        """Whether the lease was not renewed for a while."""
        return self._age() >= UNCONFIRMED_SECONDS

    @property
    def due(self) -> bool:
        """Whether it is time to renew."""
        return self._age() >= RENEW_SECONDS

    def _age(self) -> float:
        if self._confirmed_at is None:
            return LEASE_SECONDS
        return asyncio.get_running_loop().time() - self._confirmed_at

    async def acquire(self) -> bool:
        """Become the owner, unless another process is. Raises `LogUnavailable`, `ApiError`."""
        entry = await self._buckets.get(MEMBERS, self._key)
        if entry.value and entry.value != self._owner:
            return False
        return await self._put(self._owner, entry.revision)

    async def renew(self) -> bool:
        """Renew; False if another process has taken over. Raises `LogUnavailable` when that is not
        known, `ApiError`.
        """
        try:
            return await self._put(self._owner, self._revision)
        except LogUnavailable:
            # It may be stored: then the revision is another one.
            self._revision = 0
            raise

    async def release(self) -> None:
        """Let another process become the owner at once. Raises `LogUnavailable`, `ApiError`."""
        if self._confirmed_at is not None and self._revision:
            self._confirmed_at = None
            await self._buckets.put(MEMBERS, self._key, b"", revision=self._revision)

    def forget(self) -> None:
        """The lease is lost."""
        self._confirmed_at = None

    async def _put(self, value: bytes, revision: int) -> bool:
        if not revision:
            entry = await self._buckets.get(MEMBERS, self._key)
            if entry.value and entry.value != self._owner:
                return False
            revision = entry.revision
        sent_at = asyncio.get_running_loop().time()
        try:
            self._revision = await self._buckets.put(
                MEMBERS, self._key, value, revision=revision, timeout_seconds=_REQUEST_SECONDS
            )
        except ApiError as error:
            if error.changed:
                return False
            raise
        self._confirmed_at = sent_at
        return True
