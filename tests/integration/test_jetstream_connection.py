"""Connections to NATS: credentials, and their refusal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.adapters.nats.admin import JetStreamTopicAdmin
from headrace.adapters.nats.options import NatsOptions
from headrace.domain.errors import LogUnavailable
from headrace.runtime.settings import NatsSettings
from tests.support.nats_server import BINARY, UNPROVEN, NatsServer

AUTHORIZATION = 'authorization { user: "headrace", password: "river-41" }\n'


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that wants a user and a password."""
    if BINARY is None:
        pytest.skip(UNPROVEN)
    server = NatsServer(tmp_path / "nats", settings=AUTHORIZATION)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _options(server: NatsServer, directory: Path, password: str) -> NatsOptions:
    file = directory / "password"
    file.write_text(f"{password}\n")
    settings = NatsSettings(servers=server.url, user="headrace", password_file=file)
    options = settings.options("test")
    assert options is not None
    return replace(options, timeout_seconds=2.0)


async def test_a_password_from_a_file_is_accepted(secured: NatsServer, tmp_path: Path) -> None:
    """And is not shown by the options."""
    options = _options(secured, tmp_path, "river-41")
    assert "river-41" not in repr(options)
    admin = JetStreamTopicAdmin(options)
    assert (await admin.cluster()).brokers == 1
    await admin.close()


async def test_a_wrong_password_is_named_as_the_reason(secured: NatsServer, tmp_path: Path) -> None:
    """The error has the server's reason, and not the password."""
    admin = JetStreamTopicAdmin(_options(secured, tmp_path, "lake-42"))
    with pytest.raises(LogUnavailable, match=r"(?i)authorization violation") as raised:
        await admin.cluster()
    assert "lake-42" not in str(raised.value)
    await admin.close()
