"""A cache for computed values, limited by bytes because external senders choose the keys.

A limit on the number of entries is not sufficient: 4,096 request targets of 8 KiB are 32 MiB.
"""

from typing import Final, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

ENTRY_BYTES: Final = 256
"""Added for each entry: the slot of the dictionary and the object headers of key and value."""


class ByteBoundedCache(dict[Key, Value]):
    """A dictionary with a size limit. Look up entries as usual; add them with `remember` only."""

    def __init__(self, *, bytes_max: int, entry_bytes_max: int) -> None:
        """`bytes_max` limits all entries together. An entry larger than `entry_bytes_max` is not
        cached.
        """
        super().__init__()
        self.bytes = 0
        """Size of all entries, as counted by `remember`."""
        self._bytes_max = bytes_max
        self._entry_bytes_max = entry_bytes_max

    def remember(self, key: Key, value: Value, size: int) -> None:
        """Add an entry of about `size` bytes, unless it is too large. If there is no room, all
        other entries are removed first.

        A sender that keeps varying its input makes lookups slower, but does not make the cache
        larger.
        """
        if size > self._entry_bytes_max or key in self:
            return
        if self.bytes + size + ENTRY_BYTES > self._bytes_max:
            self.clear()
        self.bytes += size + ENTRY_BYTES
        self[key] = value

    def clear(self) -> None:
        """Remove all entries."""
        super().clear()
        self.bytes = 0
