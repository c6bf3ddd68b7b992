"""Files that are renewed while a process runs: what is read again, when it is used, and what is
logged when it cannot be.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.domain.errors import Permanent
from headrace.runtime.certificates import load_pair
from headrace.runtime.credential_file import CredentialFile, FileKind
from headrace.runtime.credential_files import CredentialFiles
from tests.support.certificates import Authority, Certificate
from tests.support.mounted_secret import MountedSecret
from tests.support.wait_until import wait_until_async

Logs = Sequence[Mapping[str, Any]]


class Loads:
    """Counts how often a pair was loaded, and what was made of it."""

    def __init__(self) -> None:
        self.count = 0
        self.used: list[str] = []

    def files(self, certificate: Path, key: Path, **options: Any) -> CredentialFiles[str]:
        """A value made of a certificate and its key: the text of the certificate."""

        def load() -> str:
            self.count += 1
            try:
                load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
            except ValueError as error:
                raise Permanent(f"CERTIFICATE and KEY: {error}") from error
            return certificate.read_text()

        def use(value: str) -> int:
            self.used.append(value)
            return 3

        made = CredentialFiles(
            "a test",
            [
                CredentialFile("CERTIFICATE", certificate, FileKind.CERTIFICATE),
                CredentialFile("KEY", key, FileKind.KEY),
            ],
            load,
            **options,
        )
        made.renewing(use)
        return made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the certificates."""
    return Authority(tmp_path / "ca")


@pytest.fixture
def loads() -> Loads:
    """What is counted."""
    return Loads()


def events(logs: Logs) -> list[str]:
    """The names of what was logged."""
    return [each["event"] for each in logs]


async def test_a_mounted_secret_that_is_renewed_is_used(
    tmp_path: Path, authority: Authority, loads: Loads
) -> None:
    """The log names the files, the new date and the number of clients."""
    secret = MountedSecret(tmp_path / "secret", authority.sign("first"))
    files = loads.files(secret.certificate, secret.key)
    second = authority.sign_between("second", "700101000000Z", "491231235959Z")
    assert [] == loads.used
    secret.renew(second)
    with capture_logs() as logs:
        await files.check()
    assert [second.certificate.read_text()] == loads.used
    assert second.certificate.read_text() == files.value == files.current()
    (line,) = logs
    assert {
        "event": "certificate_renewed",
        "log_level": "info",
        "used_by": "a test",
        "files": [str(secret.certificate), str(secret.key)],
        "expires": "2049-12-31T23:59:59+00:00",
        "clients": 3,
    } == line


async def test_files_that_have_the_same_content_are_not_loaded(
    tmp_path: Path, authority: Authority, loads: Loads
) -> None:
    """Neither when nothing has happened, nor when they were written again."""
    first = authority.sign("first")
    secret = MountedSecret(tmp_path / "secret", first)
    files = loads.files(secret.certificate, secret.key)
    await files.check()
    secret.renew(first)
    with capture_logs() as logs:
        await files.check()
        await files.check()
    assert 1 == loads.count
    assert [] == logs


async def test_a_pair_that_is_being_written_is_waited_for(
    authority: Authority, loads: Loads
) -> None:
    """Without a word, if it is complete at the next check."""
    own, other = authority.sign("own"), authority.sign("other")
    files, before = loads.files(own.certificate, own.key), own.certificate.read_text()
    own.certificate.write_bytes(other.certificate.read_bytes())
    with capture_logs() as logs:
        await files.check()
        assert before == files.value
        own.key.write_bytes(other.key.read_bytes())
        await files.check()
    assert other.certificate.read_text() == files.value
    assert ["certificate_renewed"] == events(logs)


async def test_a_file_that_cannot_be_used_leaves_the_old_one_in_use(
    authority: Authority, loads: Loads
) -> None:
    """One warning with the next step, until the file is another one; what can be used then is."""
    own, other = authority.sign("own"), authority.sign("other")
    files, before = loads.files(own.certificate, own.key), own.certificate.read_text()
    own.certificate.write_text("no certificate")
    with capture_logs() as logs:
        for _ in range(4):
            await files.check()
    (line,) = logs
    assert ("certificate_not_usable", "warning") == (line["event"], line["log_level"])
    assert [str(own.certificate)] == line["files"]
    assert "CERTIFICATE and KEY: " in line["error"]
    assert "what was read before stays in use" in line["next_step"]
    assert before == files.value
    own.certificate.unlink()
    with capture_logs() as logs:
        await files.check()
        await files.check()
    assert "no such file" in logs[0]["error"]
    own.certificate.write_text(before)
    with capture_logs() as logs:
        await files.check()
    assert ([], []) == (logs, loads.used)
    for each, new in ((own.certificate, other.certificate), (own.key, other.key)):
        each.write_bytes(new.read_bytes())
    await files.check()
    assert [other.certificate.read_text()] == loads.used


@pytest.mark.parametrize(
    ("begin", "end", "text"),
    [
        ("700101000000Z", "200101000000Z", "expired at 2020-01-01T00:00:00+00:00"),
        ("480101000000Z", "491231235959Z", "is valid from 2048-01-01T00:00:00+00:00 on"),
    ],
)
async def test_a_certificate_is_not_used_outside_of_its_dates(
    authority: Authority, loads: Loads, begin: str, end: str, text: str
) -> None:
    """The old one may still be valid."""
    own = authority.sign("own")
    files, before = loads.files(own.certificate, own.key), own.certificate.read_text()
    other = authority.sign_between("other", begin, end)
    own.certificate.write_bytes(other.certificate.read_bytes())
    own.key.write_bytes(other.key.read_bytes())
    with capture_logs() as logs:
        await files.check()
        await files.check()
    assert text in logs[0]["error"]
    assert before == files.value


async def test_what_others_refuse_is_tried_again(authority: Authority, loads: Loads) -> None:
    """Although the files have not changed since."""
    own, other = authority.sign("own"), authority.sign("other")
    files, refused = loads.files(own.certificate, own.key), True

    def verify(_: str) -> None:
        if refused:
            raise Permanent("the server does not know it")

    files.renewing(loads.used.append, verify=verify)
    own.certificate.write_bytes(other.certificate.read_bytes())
    own.key.write_bytes(other.key.read_bytes())
    with capture_logs() as logs:
        await files.check()
        await files.check()
    assert ["certificate_not_usable"] == events(logs)
    assert [] == loads.used
    refused = False
    await files.check()
    assert [other.certificate.read_text()] == loads.used


async def test_content_that_changes_while_it_is_read_is_read_again(
    authority: Authority, loads: Loads
) -> None:
    """What was checked may not be what was read."""
    own, other, third = (authority.sign(name) for name in ("own", "other", "third"))
    files = loads.files(own.certificate, own.key)

    def write(made: Certificate) -> None:
        own.certificate.write_bytes(made.certificate.read_bytes())
        own.key.write_bytes(made.key.read_bytes())

    written: list[Certificate] = []

    def verify(_: str) -> None:
        if not written:
            written.append(third)
            write(third)

    files.renewing(loads.used.append, verify=verify)
    write(other)
    await files.check()
    assert [] == loads.used
    await files.check()
    assert [third.certificate.read_text()] == loads.used


async def test_an_internal_error_does_not_end_the_checks(
    authority: Authority, loads: Loads
) -> None:
    """It is logged, and the next check does what this one could not."""
    own, other = authority.sign("own"), authority.sign("other")
    files, used = loads.files(own.certificate, own.key, check_seconds=0.01), list[str]()

    def use(value: str) -> None:
        used.append(value)
        if len(used) == 1:
            raise RuntimeError("a fault")

    files.renewing(use)
    with capture_logs() as logs:
        await files.start()
        own.certificate.write_bytes(other.certificate.read_bytes())
        own.key.write_bytes(other.key.read_bytes())
        await wait_until_async(lambda: "certificate_renewed" in events(logs), what="a renewal")
        await files.stop()
        await files.stop()
    assert "credential_files_failed" in events(logs)
    assert [other.certificate.read_text()] * 2 == used


async def test_secrets_have_events_of_their_own(tmp_path: Path) -> None:
    """Their values are not in the log."""
    password = tmp_path / "password"
    password.write_text("s3cret")

    def load() -> str:
        text = password.read_text()
        if not text:
            raise Permanent("PASSWORD: it is empty")
        return text

    files = CredentialFiles("a test", [CredentialFile("PASSWORD", password, FileKind.SECRET)], load)
    with capture_logs() as logs:
        password.write_text("")
        await files.check()
        await files.check()
        password.write_text("n3w-s3cret")
        await files.check()
    assert ["secret_not_usable", "secret_renewed"] == events(logs)
    assert "s3cret" not in str(logs)
    assert "n3w-s3cret" == files.value


async def test_pipes_are_read_once(tmp_path: Path) -> None:
    """Their content cannot be read again, and nobody may ever write to them again."""
    pipe, read = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)

    def load() -> str:
        read.append(pipe.read_text())
        return read[-1]

    writing = asyncio.create_task(asyncio.to_thread(pipe.write_text, "s3cret"))
    file = CredentialFile("PASSWORD", pipe, FileKind.SECRET)
    files = await asyncio.to_thread(CredentialFiles, "a test", [file], load)
    await writing
    await files.start()
    await files.check()
    await files.stop()
    assert ["s3cret"] == read


async def test_the_first_value_must_be_usable(authority: Authority, loads: Loads) -> None:
    """As at any start: with an error for the operator."""
    own = authority.sign("own")
    own.key.write_text("no key")
    with pytest.raises(Permanent, match="CERTIFICATE and KEY"):
        loads.files(own.certificate, own.key)


async def test_a_change_right_after_the_start_is_noticed(
    authority: Authority, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one between the first look at the files and their first use."""
    own, other = authority.sign("own"), authority.sign("other")
    digests = CredentialFiles._digests

    def noted(self: CredentialFiles[str]) -> list[bytes]:
        found = digests(self)
        if loads.count == 0:
            own.certificate.write_bytes(other.certificate.read_bytes())
            own.key.write_bytes(other.key.read_bytes())
        return found

    monkeypatch.setattr(CredentialFiles, "_digests", noted)
    files = loads.files(own.certificate, own.key)
    await files.check()
    assert [other.certificate.read_text()] == loads.used
