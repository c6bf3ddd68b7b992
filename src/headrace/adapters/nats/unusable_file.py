"""The error for a file of `HEADRACE_NATS_*` that cannot be used."""

from pathlib import Path


class UnusableFile(OSError):
    """Names the setting and the file. An OSError, because the client tries to connect again after
    those and ends for good after others: the file may be replaced by one that can be used.
    """

    def __init__(self, setting: str, path: Path, reason: str) -> None:
        super().__init__(f"{setting}: cannot use {path}: {reason}")
