"""Certificates, keys and secrets that are read from files, and read again when the files change.

Kubernetes and cert-manager renew the files of a Secret while it is mounted, long before the old
certificate expires. So a process reads its files again every `CHECK_SECONDS`: first only what
`stat` says of them, and their content if that has changed. New content is used after it was
checked. Until then, and as long as it cannot be used, the value read before stays in use.

Files of one value may be written one after the other, so a certificate and a key that do not match
are no fault at first: they are reported when the next check finds them unchanged.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import structlog

from headrace.domain.errors import HeadraceError
from headrace.runtime.certificates import validity
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.tasks import end_task

CHECK_SECONDS: Final = 10.0
FILE_BYTES_MAX: Final = 4 * 1_048_576
"""What is read of a file to see whether it has changed."""
_REPEAT_SECONDS: Final = 600.0
"""How often an unchanged fault is logged."""

logger = structlog.get_logger(__name__)

ValueT = TypeVar("ValueT")
Signature = tuple[tuple[int, int, int, int] | None, ...]


class CredentialFiles(Generic[ValueT]):
    """A value made of files: a component of a service, which makes it again when the files change.

    `value` is the current one. It is replaced on the event loop, so code on the loop may read it at
    any time.
    """

    def __init__(
        self,
        used_by: str,
        files: Sequence[CredentialFile],
        load: Callable[[], ValueT],
        *,
        check_seconds: float | None = None,
    ) -> None:
        """Load the value for the first time; raises what `load` does. `used_by` says in the log
        what the files are for.

        `load` reads and checks the files. It blocks, and is called on a thread from then on. It
        raises a `HeadraceError` that names the setting of a file that cannot be used.

        `check_seconds` is how often the files are looked at, `CHECK_SECONDS` by default.
        """
        self._used_by = used_by
        # The content of a pipe can be read only once. Then nothing is read again.
        self._files = list(files) if all(each.path.is_file() for each in files) else []
        self._load = load
        self._verify: Callable[[ValueT], None] = _accept
        self._on_renewed: Callable[[ValueT], int | None] = _no_clients
        self._check_seconds = CHECK_SECONDS if check_seconds is None else check_seconds
        self._seen: Signature | None = self._signature()
        self._in_use = self._digests()
        self._rejected: list[bytes] | None = None
        self._reported = ""
        self._reported_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.value = load()

    def current(self) -> ValueT:
        """Return `value`: for code that must not keep it."""
        return self.value

    def renewing(
        self,
        use: Callable[[ValueT], int | None],
        *,
        verify: Callable[[ValueT], None] | None = None,
    ) -> None:
        """Call `use` on the loop with each new value; it returns the number of clients that have to
        be replaced, None if there is no such number. Before that, `verify` is called on a thread,
        which raises as `load` does.
        """
        self._on_renewed = use
        self._verify = verify or _accept

    async def start(self) -> None:
        """Look for changes from now on."""
        if self._files:
            self._task = asyncio.create_task(self._watch(), name=f"files of {self._used_by}")

    async def stop(self) -> None:
        """Stop looking for changes. Idempotent."""
        task, self._task = self._task, None
        await end_task(task)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            # Without a deadline: a file system that does not answer holds up nothing else.
            await self.check()

    async def check(self) -> None:
        """Look for changes now; never raises."""
        try:
            await self._renew()
        except HeadraceError as error:
            self._report(str(error))
        except Exception as error:  # Without this task nothing would be renewed.
            logger.exception("credential_files_failed", used_by=self._used_by, error=repr(error))

    async def _renew(self) -> None:
        signature = await asyncio.to_thread(self._signature)
        if signature == self._seen and self._rejected is None:
            return
        self._seen = signature
        digests = await asyncio.to_thread(self._digests)
        if digests == self._in_use:
            self._rejected = None
            return
        repeated, self._rejected = digests == self._rejected, digests
        changed = self._changed(digests)
        try:
            value = await asyncio.to_thread(self._checked, changed)
        except HeadraceError:
            if repeated:
                raise
            return
        if await asyncio.to_thread(self._digests) != digests:
            return  # Written while it was read: the next check reads it again.
        self.value = value
        clients = self._on_renewed(value)
        self._in_use, self._rejected, self._reported = digests, None, ""
        await self._log_renewal(changed, clients)

    def _checked(self, changed: Collection[CredentialFile]) -> ValueT:
        """Load a new value and check it. Thread."""
        value = self._load()
        for each in changed:
            if each.kind is FileKind.CERTIFICATE:
                _check_dates(each)
        self._verify(value)
        return value

    def _changed(self, digests: Sequence[bytes]) -> list[CredentialFile]:
        return [
            file
            for file, old, new in zip(self._files, self._in_use, digests, strict=True)
            if old != new
        ]

    def _signature(self) -> Signature:
        """Return what changes with a file that is written or replaced, symbolic links followed."""
        return tuple(_stat(each.path) for each in self._files)

    def _digests(self) -> list[bytes]:
        return [_digest(each.path) for each in self._files]

    async def _log_renewal(self, changed: Sequence[CredentialFile], clients: int | None) -> None:
        dates = await asyncio.to_thread(lambda: [_validity(each) for each in changed])
        ends = [each[1] for each in dates if each is not None]
        fields: dict[str, Any] = {
            "used_by": self._used_by,
            "files": [str(each.path) for each in changed],
        }
        if ends:
            fields["expires"] = min(ends).isoformat()
        if clients is not None:
            fields["clients"] = clients
        if _are_secrets(changed):
            logger.info("secret_renewed", **fields)
        else:
            logger.info("certificate_renewed", **fields)

    def _report(self, error: str) -> None:
        now = time.monotonic()
        if error == self._reported and now - self._reported_at < _REPEAT_SECONDS:
            return
        self._reported, self._reported_at = error, now
        changed = self._changed(self._rejected or self._in_use)
        fields: dict[str, Any] = {
            "used_by": self._used_by,
            "files": [str(each.path) for each in changed],
            "error": error,
            "next_step": "correct the files: they are read again every"
            f" {self._check_seconds:g} s, and what was read before stays in use",
        }
        if _are_secrets(changed):
            logger.warning("secret_not_usable", **fields)
        else:
            logger.warning("certificate_not_usable", **fields)


def _accept(_value: object) -> None:
    """No further check."""


def _no_clients(_value: object) -> None:
    """Nobody needs to know."""


def _are_secrets(files: Sequence[CredentialFile]) -> bool:
    return all(each.kind is FileKind.SECRET for each in files)


def _stat(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _digest(path: Path) -> bytes:
    return hashlib.sha256(_read(path)).digest()


def _read(path: Path) -> bytes:
    """Return the content of a file, nothing if it cannot be read: `load` says why."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError:
        return b""


def _validity(file: CredentialFile) -> tuple[datetime, datetime] | None:
    if file.kind in (FileKind.SECRET, FileKind.KEY):
        return None
    return validity(_read(file.path))


def _check_dates(file: CredentialFile) -> None:
    """Raise `UnusableCertificate` for a certificate that is not valid now."""
    dates = _validity(file)
    now = datetime.now(UTC)
    if dates is not None and not dates[0] <= now < dates[1]:
        where = f"{file.setting}: {file.path}"
        raise UnusableCertificate(
            f"{where} expired at {dates[1].isoformat()}"
            if now >= dates[1]
            else f"{where} is valid from {dates[0].isoformat()} on"
        )


class UnusableCertificate(HeadraceError):
    """A certificate cannot be used now."""
