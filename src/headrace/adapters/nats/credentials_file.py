"""Reads a `.creds` file, in which a user has a JWT and the seed of its key.

The client library can read such a file too, but never returns from one without a JWT, does not take
the ends of lines of Windows, and ends for good when the seed is no key.
"""

import re
from collections import UserString
from pathlib import Path
from typing import Final

from headrace.adapters.nats.unusable_file import UnusableFile

_SETTING: Final = "HEADRACE_NATS_CREDENTIALS_FILE"
BYTES_MAX: Final = 65_536
_JWT: Final = "NATS USER JWT"
_JWT_FORM: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_SEED: Final = "USER NKEY SEED"
_SEED_FORM: Final = re.compile(r"SU[A-D][A-Z2-7]{55}")
"""The prefix of a user's seed, 32 bytes and a check sum, in base 32."""


class CredentialsFile(UserString):
    """Credentials in the form in which the client takes them from memory. It asks for `data` at
    each connection, so that a renewed file is used.
    """

    def __init__(self, path: Path) -> None:
        # Not that of the parent class, which would keep the content.
        self._path = path

    def __repr__(self) -> str:
        return f"CredentialsFile({self._path})"

    @property
    def data(self) -> str:  # type: ignore[override]  # the client only reads it
        """The file's JWT and seed. Raises `UnusableFile`."""
        try:
            with self._path.open("rb") as file:
                return parse(file.read(BYTES_MAX + 1))
        except OSError as error:
            raise UnusableFile(_SETTING, self._path, error.strerror or str(error)) from error
        except ValueError as error:
            raise UnusableFile(_SETTING, self._path, str(error)) from None


def parse(content: bytes) -> str:
    """Return the JWT and the seed of a file, as the client expects them. Raises ValueError, whose
    message has nothing of the content.
    """
    if len(content) > BYTES_MAX:
        raise ValueError(f"it has more than {BYTES_MAX} bytes")
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        # Without its cause, which has the content.
        raise ValueError("it is not text") from None
    return "".join(
        f"-----BEGIN {title}-----\n{_entry(lines, title, form)}\n------END {title}------\n"
        for title, form in ((_JWT, _JWT_FORM), (_SEED, _SEED_FORM))
    )


def _entry(lines: list[str], title: str, form: re.Pattern[str]) -> str:
    """The line after the one that begins an entry."""
    for number, line in enumerate(lines[:-1]):
        if f"BEGIN {title}" in line:
            entry = lines[number + 1].strip()
            if form.fullmatch(entry):
                return entry
            raise ValueError(f"its {title} has another form")
    raise ValueError(f"it has no line BEGIN {title}")
