"""A file with a certificate, a key or a secret, which a setting names."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path


class FileKind(Enum):
    """What a file contains."""

    CERTIFICATE = auto()
    """The process's own certificate, and those between it and its authority."""
    AUTHORITIES = auto()
    """CA certificates that are trusted."""
    KEY = auto()
    SECRET = auto()
    """A user name, a password or a token."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """One file, and the setting that names it."""

    setting: str
    path: Path
    kind: FileKind
