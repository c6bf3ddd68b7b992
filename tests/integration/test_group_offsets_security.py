"""Committed offsets are read and written over TLS and with each way to log in, as docs/security.md
describes them.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.kafka.group_offsets.connection import BrokerConnections, Unanswered
from headrace.adapters.kafka.group_offsets.coordinators import bootstrap_addresses
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, GroupOffsets
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.errors import LogUnavailable, WriteRefused
from headrace.domain.record import Partition
from headrace.runtime.loading import load
from headrace.runtime.settings import KafkaSettings
from tests.integration.test_group_offsets import STORED, by_partition, name, positions_of
from tests.support.certificates import Authority, openssl
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.secured_kafka import SecuredKafka, secured_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

SECONDS = 20.0
SOON = 2.0
PARTITIONS = [Partition("t", 0)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all tests of this module."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as started:
        yield started


def options_of(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> KafkaOptions:
    """The options of a service with these variables."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return load(KafkaSettings).options("offsets")


async def store(options: KafkaOptions, topic: str) -> None:
    """Commit and read."""
    group, positions = name(), positions_of(topic, 4, partitions=1)
    offsets = GroupOffsets(options)
    try:
        assert STORED == await offsets.commit(group, positions, SECONDS)
        found = await offsets.read({group: [each.partition for each in positions]}, SECONDS)
        assert {group: by_partition(positions)} == found
    finally:
        await offsets.close()


async def refusal(options: KafkaOptions, kind: type[Exception] = WriteRefused) -> str:
    """Why nothing is read, which nothing is committed for either."""
    offsets = GroupOffsets(options)
    try:
        with pytest.raises(kind) as caught:
            await offsets.read({"g": PARTITIONS}, SOON)
        result = await offsets.commit("g", positions_of("t", 1, partitions=1), SOON)
        assert result.outcome in (CommitOutcome.REFUSED, CommitOutcome.UNAVAILABLE)
        return str(caught.value)
    finally:
        await offsets.close()


def topic_in(secured: SecuredKafka) -> str:
    """A new topic."""
    return KafkaUnderTest(secured.apache.bootstrap_servers, Kind.GIVEN).create_topic("offsets")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_by_password(
    secured: SecuredKafka,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mechanism: str,
) -> None:
    """The password is in no line of the log."""
    caplog.set_level(logging.DEBUG)
    await store(options_of(secured.by_password(mechanism), monkeypatch), topic_in(secured))
    assert secured.password.read_text(encoding="ascii").strip() not in caplog.text


async def test_by_certificate(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a key that is encrypted, too."""
    topic = topic_in(secured)
    environment = secured.by_certificate()
    await store(options_of(environment, monkeypatch), topic)
    password, key = tmp_path / "password", tmp_path / "key.pem"
    password.write_text(secrets.token_urlsafe(12), encoding="ascii")
    openssl(
        *("pkcs8", "-topk8", "-in", str(secured.client.key), "-out", str(key)),
        *("-passout", f"file:{password}"),
    )
    encrypted = {
        **environment,
        "HEADRACE_KAFKA_SSL_KEY_FILE": str(key),
        "HEADRACE_KAFKA_SSL_KEY_PASSWORD_FILE": str(password),
    }
    await store(options_of(encrypted, monkeypatch), topic)


async def test_a_wrong_password_is_refused(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At once, with the reason of the broker."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-password", encoding="ascii")
    for mechanism in ("SCRAM-SHA-512", "PLAIN"):
        environment = {
            **secured.by_password(mechanism),
            "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(wrong),
        }
        reason = await refusal(options_of(environment, monkeypatch))
        assert "SASL_AUTHENTICATION_FAILED" in reason
        assert "wrong-password" not in reason


async def test_a_refused_login_leaves_no_connection(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The broker ends TLS later. Nobody waits for that."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-password", encoding="ascii")
    password = {"HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(wrong)}
    options = options_of({**secured.by_password("PLAIN"), **password}, monkeypatch)
    loop = asyncio.get_running_loop()
    connect, opened = loop.create_connection, []

    async def create_connection(*arguments: Any, **named: Any) -> Any:
        transport, protocol = await connect(*arguments, **named)
        opened.append(transport.get_extra_info("socket"))
        return transport, protocol

    monkeypatch.setattr(loop, "create_connection", create_connection)
    connections = BrokerConnections(options)
    with pytest.raises(Unanswered):
        await connections.connection(bootstrap_addresses(options.bootstrap_servers)[0])
    await asyncio.sleep(0)
    assert [-1] == [each.fileno() for each in opened]
    await connections.close()


async def test_a_broker_without_trust_is_refused(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its certificate is of another authority, or none that the system trusts."""
    other = Authority(tmp_path / "other").file
    environment = {
        **secured.by_password("PLAIN"),
        "HEADRACE_KAFKA_SSL_CA_FILE": str(other),
    }
    assert "certificate verify failed" in await refusal(options_of(environment, monkeypatch))
    monkeypatch.delenv("HEADRACE_KAFKA_SSL_CA_FILE")
    del environment["HEADRACE_KAFKA_SSL_CA_FILE"]
    assert "certificate verify failed" in await refusal(options_of(environment, monkeypatch))


async def test_a_broker_with_another_name_is_refused(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that was configured counts, not the address that it leads to."""
    options = options_of(secured.by_password("PLAIN"), monkeypatch)
    port = secured.sasl_address.rpartition(":")[2]
    resolve = socket.getaddrinfo

    def resolve_test(host: Any, *more: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host == "kafka.test" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_test)
    reason = await refusal(replace(options, bootstrap_servers=f"kafka.test:{port}"))
    assert "certificate is not valid for 'kafka.test'" in reason
    await store(replace(options, bootstrap_servers=f"localhost:{port}"), topic_in(secured))


async def test_a_client_without_certificate_is_refused(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the broker."""
    environment = {
        each: value
        for each, value in secured.by_certificate().items()
        if "CERTIFICATE" not in each and "KEY" not in each
    }
    assert "certificate" in await refusal(options_of(environment, monkeypatch))


async def test_tls_where_there_is_none_is_no_refusal(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing says whether it is the right broker."""
    options = options_of(secured.by_certificate(), monkeypatch)
    plain = replace(options, bootstrap_servers=secured.apache.bootstrap_servers)
    assert "within 2 s" in await refusal(plain, LogUnavailable)
