"""Connections to NATS: TLS and credentials as the settings offer them, and what is said when the
server or the client refuses them.
"""

import asyncio
import re
import subprocess
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable
from headrace.runtime.settings import NatsSettings
from tests.support.certificates import Authority
from tests.support.mounted_secret import MountedSecret
from tests.support.nats_credentials import Operator
from tests.support.nats_server import BINARY, UNPROVEN, NatsServer
from tests.support.wait_until import wait_until_async

SECRET, OTHER = "river-41", "lake-42"
PASSWORD = f'authorization {{ user: "headrace", password: "{SECRET}" }}\n'
TOKEN = f'authorization {{ token: "{SECRET}" }}\n'
Serve = Callable[[str], NatsServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with some lines of configuration."""
    if BINARY is None:
        pytest.skip(UNPROVEN)
    servers: list[NatsServer] = []

    def start(settings: str) -> NatsServer:
        server = NatsServer(tmp_path / f"nats-{len(servers)}", settings=settings)
        servers.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The CA of the servers here."""
    return Authority(tmp_path / "ca")


def options_of(url: str, **settings: Any) -> NatsOptions:
    """What the settings make of it; secrets are not displayed."""
    options = NatsSettings(servers=url, **settings).options("test")
    assert options is not None
    assert SECRET not in repr(options)
    return replace(options, timeout_seconds=10.0)


def file_with(path: Path, text: str) -> Path:
    """A file of this content."""
    path.write_text(text)
    return path


async def assert_works(options: NatsOptions) -> None:
    """JetStream answers."""
    admin = JetStreamTopicAdmin(options)
    try:
        assert (await admin.cluster()).brokers == 1
    finally:
        await admin.close()


@asynccontextmanager
async def refused(options: NatsOptions, pattern: str) -> AsyncIterator[NatsConnection]:
    """A connection whose error says this, and has no secret."""
    connection = NatsConnection(options)
    try:
        connection.start()
        await wait_until_async(lambda: re.search(pattern, connection.last_error), 10, pattern)
        assert not connection.is_connected
        assert SECRET not in connection.last_error
        assert OTHER not in connection.last_error
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def pretended_server(
    then: Callable[[StreamReader, StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The URL of what begins as a server without TLS, and then does as the test says."""

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1048576, "auth_required": true, "headers": true}\r\n')
        await then(reader, writer)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# Passwords and tokens.


async def test_a_password_from_a_file_is_accepted(serve: Serve, tmp_path: Path) -> None:
    """The newline at its end is none of it."""
    file = file_with(tmp_path / "password", f"{SECRET}\n")
    await assert_works(options_of(serve(PASSWORD).url, user="headrace", password_file=file))


async def test_a_renewed_password_is_used_at_the_next_connection(
    serve: Serve, tmp_path: Path
) -> None:
    """The server has another one after its restart. A file that cannot be read then is no reason to
    forget it.
    """
    (tmp_path / "nats-0").mkdir()
    included = file_with(tmp_path / "nats-0" / "login.conf", PASSWORD)
    server = serve("include ./login.conf\n")
    file = file_with(tmp_path / "password", SECRET)
    options = options_of(server.url, user="headrace", password_file=file)
    connection = NatsConnection(options)
    try:
        await connection.wait_connected(10)
        await asyncio.to_thread(server.stop)
        included.write_text(PASSWORD.replace(SECRET, OTHER))
        file.write_text(OTHER)
        await asyncio.to_thread(server.start)
        await wait_until_async(lambda: connection.is_connected, 20, "a connection")
        file.unlink()
        assert options.password is not None
        assert OTHER == options.password()
    finally:
        await connection.close()


async def test_a_wrong_password_is_named_as_the_reason(serve: Serve, tmp_path: Path) -> None:
    """The error has the server's reason and the setting, and not the password."""
    file = file_with(tmp_path / "password", OTHER)
    options = options_of(serve(PASSWORD).url, user="headrace", password_file=file)
    admin = JetStreamTopicAdmin(replace(options, timeout_seconds=2.0))
    said = r"(?i)authorization violation.*HEADRACE_NATS_PASSWORD_FILE"
    with pytest.raises(LogUnavailable, match=said) as raised:
        await admin.cluster()
    assert OTHER not in str(raised.value)
    await admin.close()


async def test_a_token_from_a_file_is_accepted_and_another_refused(
    serve: Serve, tmp_path: Path
) -> None:
    """So is a connection without one: each is shown what to set."""
    url = serve(TOKEN).url
    await assert_works(options_of(url, token_file=file_with(tmp_path / "token", SECRET)))
    other = options_of(url, token_file=file_with(tmp_path / "other", OTHER))
    async with refused(other, "the token in HEADRACE_NATS_TOKEN_FILE") as connection:
        assert connection.refused
    async with refused(options_of(url), "without credentials: set HEADRACE_NATS_USER"):
        pass


async def test_the_reason_is_kept_when_the_server_then_closes_without_one() -> None:
    """It may close a connection before the client has read why."""
    connections = 0

    async def refuse_once(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"PING\r\n")
            writer.write(b"-ERR 'Authorization Violation'\r\n")
        else:
            writer.transport.abort()

    async with (
        pretended_server(refuse_once) as url,
        refused(options_of(url), "without credentials") as connection,
    ):
        await wait_until_async(lambda: connections > 3, 10, "more connections")
        assert connection.refused


# Credentials files.


async def test_a_credentials_file_is_accepted_and_another_operators_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    """Also one with the ends of lines of Windows. One that is renewed is used without a restart."""
    operator = Operator()
    url = serve(operator.settings).url
    good = operator.credentials(tmp_path / "good.creds")
    await assert_works(options_of(url, credentials_file=good))
    windows = tmp_path / "windows.creds"
    windows.write_bytes(good.read_bytes().replace(b"\n", b"\r\n"))
    await assert_works(options_of(url, credentials_file=windows))

    file = operator.credentials(tmp_path / "renewed.creds", trusted=False)
    options = options_of(url, credentials_file=file)
    async with refused(options, "the user in HEADRACE_NATS_CREDENTIALS_FILE") as connection:
        assert connection.refused
        operator.credentials(file)
        await connection.wait_connected(10)


async def test_a_credentials_file_that_is_none_is_an_error_until_it_is_one(
    serve: Serve, tmp_path: Path
) -> None:
    """The client library would read a file without a JWT forever, in the event loop, and would end
    for good after one without a seed.
    """
    operator = Operator()
    file = operator.credentials(tmp_path / "user.creds")
    text = file.read_text()
    jwt, seed = text.split("\n\n", 1)
    options = options_of(serve(operator.settings).url, credentials_file=file)
    setting = f"HEADRACE_NATS_CREDENTIALS_FILE: cannot use {file}: "
    faults = {
        seed: "it has no line BEGIN NATS USER JWT",
        jwt: "it has no line BEGIN USER NKEY SEED",
        text.replace("\nSU", "\nSA"): "its USER NKEY SEED has another form",
    }
    for content, said in faults.items():
        file.write_text(content)
        async with refused(options, re.escape(setting + said)) as connection:
            assert text.split("\n")[-3] not in connection.last_error
            file.write_text(text)
            await connection.wait_connected(10)


# TLS.


def tls(authority: Authority, *more: str) -> str:
    """The lines for a server with TLS."""
    own = authority.sign("server")
    lines = (f'cert_file: "{own.certificate}"', f'key_file: "{own.key}"', *more)
    return f"tls {{ {', '.join(lines)} }}\n"


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_tls_with_a_ca_of_our_own(serve: Serve, authority: Authority, scheme: str) -> None:
    """With both forms of the URL."""
    url = serve(tls(authority)).url.replace("nats:", f"{scheme}:")
    await assert_works(options_of(url, ca_file=authority.file))


async def test_a_server_of_another_ca_is_refused(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    """The setting is named, whether it is set or not; a CA file that is replaced is used."""
    url = serve(tls(authority)).url
    async with refused(options_of(url), "certificate verify failed.*set HEADRACE_NATS_CA_FILE"):
        pass
    other = Authority(tmp_path / "other", "other").file
    said = "certificate verify failed.*HEADRACE_NATS_CA_FILE must have the CA"
    async with refused(options_of(url, ca_file=other), said):
        pass


async def test_a_ca_file_that_is_none_is_an_error_until_it_is_one(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    """It may be written while the process runs."""
    file = file_with(tmp_path / "ca.pem", "no certificate")
    options = options_of(serve(tls(authority)).url, ca_file=file)
    said = re.escape(f"HEADRACE_NATS_CA_FILE: cannot use {file}: no certificate")
    async with refused(options, said) as connection:
        file.write_bytes(authority.file.read_bytes())
        await connection.wait_connected(10)


async def test_mutual_tls(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    """A certificate of the server's CA is accepted; none, another CA's, and one without its key are
    not.
    """
    url = serve(tls(authority, f'ca_file: "{authority.file}"', "verify: true")).url
    own, ca = authority.sign("client"), authority.file
    strange = Authority(tmp_path / "other", "other").sign("stranger")

    def with_certificate(certificate: Path, key: Path) -> NatsOptions:
        return options_of(url, ca_file=ca, certificate_file=certificate, key_file=key)

    await assert_works(with_certificate(own.certificate, own.key))
    async with refused(options_of(url, ca_file=ca), "set HEADRACE_NATS_CERTIFICATE_FILE"):
        pass
    said = "does not accept the certificate in HEADRACE_NATS_CERTIFICATE_FILE"
    async with refused(with_certificate(strange.certificate, strange.key), said):
        pass
    said = f"HEADRACE_NATS_KEY_FILE: cannot use {own.certificate}: key values mismatch"
    async with refused(with_certificate(own.certificate, strange.key), re.escape(said)):
        pass


async def test_renewed_certificates_are_used_at_the_next_connection(
    serve: Serve, tmp_path: Path
) -> None:
    """When the server has a certificate of another authority, and trusts no client of the old one.
    Files that cannot be used leave those of the last connection in use.
    """
    first, second = (Authority(tmp_path / name, name) for name in ("first", "second"))
    served, secret = (
        MountedSecret(tmp_path / name, first.sign(name), first.file.read_bytes())
        for name in ("server", "client")
    )
    lines = f'cert_file: "{served.certificate}", key_file: "{served.key}"'
    server = serve(f'tls {{ {lines}, ca_file: "{served.authorities}", verify: true }}\n')
    connection = NatsConnection(
        options_of(
            server.url,
            ca_file=secret.authorities,
            certificate_file=secret.certificate,
            key_file=secret.key,
        )
    )

    async def restarted() -> list[str]:
        with capture_logs() as logs:
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await wait_until_async(
                lambda: "nats_reconnected" in {each["event"] for each in logs}, 20, "a connection"
            )
        return [each["event"] for each in logs]

    try:
        await connection.wait_connected(10)
        served.renew(second.sign("server"), second.file.read_bytes())
        secret.renew(second.sign("client"), second.file.read_bytes())
        assert "certificate_not_usable" not in await restarted()
        secret.write(b"no certificate", secret.key.read_bytes())
        assert 1 == (await restarted()).count("certificate_not_usable")
    finally:
        await connection.close()


def test_an_encrypted_key_is_an_error(authority: Authority, tmp_path: Path) -> None:
    """OpenSSL would ask for the password at the terminal, and wait forever."""
    own, key = authority.sign("client"), tmp_path / "encrypted.key"
    command = ["openssl", "ec", "-aes256", "-passout", f"pass:{SECRET}", "-in", str(own.key)]
    subprocess.run([*command, "-out", str(key)], check=True, capture_output=True, timeout=30)
    options = options_of("tls://127.0.0.1", certificate_file=own.certificate, key_file=key)
    with pytest.raises(OSError, match=f"HEADRACE_NATS_KEY_FILE: cannot use {key}: it is encrypted"):
        options.client()


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_nothing_is_sent_to_a_server_without_tls(
    authority: Authority, tmp_path: Path, scheme: str
) -> None:
    """Where TLS is wanted: neither credentials nor events, whatever answers on that port."""
    received = bytearray()

    async def receive(reader: StreamReader, _writer: StreamWriter) -> None:
        received.extend(await reader.read())

    async with pretended_server(receive) as url:
        options = options_of(
            url.replace("nats:", f"{scheme}:"),
            token_file=file_with(tmp_path / "token", SECRET),
            ca_file=authority.file if scheme == "nats" else None,
        )
        async with refused(options, "the server does not ask for TLS, but HEADRACE_NATS_CA_FILE"):
            pass
    assert b"" == bytes(received)
