"""The leases of sources in one process, which holds all of them. Cursors are lost with it."""

from headrace.domain.ports import LeaseListener


class MemorySourceLeases:
    """Implements `headrace.domain.ports.SourceLeases`."""

    def __init__(self) -> None:
        self._cursors: dict[str, str] = {}

    async def start(self, listener: LeaseListener) -> None:
        """See the port."""
        listener.on_acquired()

    def holds(self, uid: str) -> bool:
        """See the port."""
        del uid
        return True

    def cursor(self, uid: str) -> str | None:
        """See the port."""
        return self._cursors.get(uid)

    async def save_cursor(self, uid: str, cursor: str | None) -> None:
        """See the port."""
        if cursor is None:
            self._cursors.pop(uid, None)
        else:
            self._cursors[uid] = cursor

    async def stop(self) -> None:
        """See the port."""
