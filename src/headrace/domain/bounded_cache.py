"""A dictionary for what is worked out once per input and remembered, bounded by bytes because
outside senders choose the keys.

A bound on the number of entries alone is none: 4,096 request targets of 8 KiB are 32 MiB.
"""

from typing import Final, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

ENTRY_BYTES: Final = 256
"""Added per entry: the slot of the dictionary and the object headers of key and value."""


class ByteBoundedCache(dict[Key, Value]):
    """Look up as in any dictionary; add with `remember` only."""

    def __init__(self, *, bytes_max: int, entry_bytes_max: int) -> None:
        """`bytes_max` is for all entries together; one of more than `entry_bytes_max` is not
        remembered.
        """
        super().__init__()
        self.bytes = 0
        """Of all entries, as counted by `remember`."""
        self._bytes_max = bytes_max
        self._entry_bytes_max = entry_bytes_max

    def remember(self, key: Key, value: Value, size: int) -> None:
        """Add an entry of about `size` bytes, unless that is too large; when there is no room,
        everything else is forgotten first.

        A sender that varies its input without end makes lookups slower, and this no larger.
        """
        if size > self._entry_bytes_max or key in self:
            return
        if self.bytes + size + ENTRY_BYTES > self._bytes_max:
            self.clear()
        self.bytes += size + ENTRY_BYTES
        self[key] = value

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self.bytes = 0
