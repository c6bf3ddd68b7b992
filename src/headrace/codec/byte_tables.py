"""Tables for `bytes.translate` that test whether a value consists of certain bytes only.

`value.translate(table) == value` is one loop, which returns the value itself if nothing changes.
`value.translate(None, allowed)` fills a table of 256 entries first, which takes longer than the
loop for the short values of events.
"""


def allowing(allowed: bytes) -> bytes:
    """Return a table that changes every byte except those of `allowed`."""
    return bytes(byte if byte in allowed else 0xFF - byte for byte in range(0x100))
