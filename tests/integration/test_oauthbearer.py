"""Kafka with OAUTHBEARER: each service gets its tokens from an authorization server, and new ones
before they expire.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.group_offsets import (
    CommitOutcome,
    CommitResult,
    GroupOffsets,
)
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.domain.errors import WriteRefused
from headrace.domain.record import Partition
from headrace.runtime.loading import load
from headrace.runtime.settings import KafkaSettings
from tests.support.headrace_under_test import HeadraceUnderTest, wait_for_events
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.kafka_listeners import kafka_with_listeners
from tests.support.ledger import numbered
from tests.support.manifests import broker, trigger
from tests.support.processes import Processes
from tests.support.token_server import TokenServer
from tests.support.wait_until import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
NAMESPACE = "tokens"
LIFETIME_SECONDS = 12.0
SERVICES = ("controller", "ingress", "dispatcher")
MODULES = "org.apache.kafka.common.security.oauthbearer"


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    """The authorization server, which knows the services."""
    found = TokenServer(tmp_path / "tokens", audience="kafka", lifetime_seconds=LIFETIME_SECONDS)
    found.clients = {f"headrace-{each}": secrets.token_urlsafe(24) for each in SERVICES}
    with found.running():
        yield found


@pytest.fixture
def guarded(
    tokens: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ApacheKafka, str]]:
    """A Kafka that verifies tokens, and ends connections whose token has expired; the address of
    its listener.
    """
    own = "listener.name.tokens"
    settings = {
        f"{own}.sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{own}.oauthbearer.sasl.jaas.config": f"{MODULES}.OAuthBearerLoginModule required;",
        f"{own}.oauthbearer.sasl.server.callback.handler.class": (
            f"{MODULES}.OAuthBearerValidatorCallbackHandler"
        ),
        f"{own}.oauthbearer.connections.max.reauth.ms": "3600000",
        "sasl.oauthbearer.jwks.endpoint.url": tokens.key_set.as_uri(),
        "sasl.oauthbearer.expected.audience": "kafka",
    }
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={tokens.key_set.as_uri()}"
    # Kafka takes paths of files by another name.
    allowed += f" -Dorg.apache.kafka.sasl.oauthbearer.allowed.files={tokens.key_set}"
    options = os.environ.get("JAVA_TOOL_OPTIONS", "")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"{options} {allowed}")
    protocols = {"TOKENS": "SASL_PLAINTEXT"}
    with kafka_with_listeners(tmp_path, protocols, settings) as started:
        yield started.apache, started.addresses["TOKENS"]


def _env(tokens: TokenServer, address: str, directory: Path, service: str) -> dict[str, str]:
    name = f"headrace-{service}"
    secret = directory / f"{name}.secret"
    secret.write_text(tokens.clients.get(name, "wrong"), encoding="ascii")
    return {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "HEADRACE_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "HEADRACE_KAFKA_SASL_USERNAME": name,
        "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(secret),
        "HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT": tokens.url,
        "HEADRACE_KAFKA_SASL_TOKEN_SCOPE": "events",
    }


def test_events_pass_before_and_after_tokens_expire(
    tokens: TokenServer, guarded: tuple[ApacheKafka, str], tmp_path: Path
) -> None:
    """Nobody restarts anything."""
    apache, address = guarded
    own = {each: _env(tokens, address, tmp_path, each) for each in SERVICES}
    system = HeadraceUnderTest(apache.bootstrap_servers, tmp_path, own_env=own)
    try:
        system.start()
        system.establish(
            broker(NAMESPACE), trigger(NAMESPACE, "orders", system.sinks.url("orders"))
        )
        assert 202 == system.send(numbered(1, "w", 0), f"/{NAMESPACE}/default")
        wait_for_events(system, "orders", 1)
        before = {each: tokens.issued.count(f"headrace-{each}") for each in SERVICES}
        assert min(before.values()) >= 1
        wait_until(
            lambda: all(
                tokens.issued.count(f"headrace-{each}") > 2 * before[each] for each in SERVICES
            ),
            4 * LIFETIME_SECONDS,
            "every client has had new tokens",
            every=0.2,
        )
        assert 202 == system.send(numbered(1, "w", 1), f"/{NAMESPACE}/default")
        wait_for_events(system, "orders", 2)
    except BaseException:
        print(system.processes.report())
        raise
    finally:
        system.close()


def test_a_wrong_secret_is_named_in_the_log(
    tokens: TokenServer, guarded: tuple[ApacheKafka, str], processes: Processes, tmp_path: Path
) -> None:
    """The setting to check, and not the secret."""
    env = _env(tokens, guarded[1], tmp_path, "stranger")
    ingress = processes.headrace("ingress", "--port", "0", "--management-port", "0", env=env)
    wait_until(lambda: "HEADRACE_KAFKA_SASL_TOKEN_ENDPOINT" in ingress.output(), 20, "it is named")
    assert "invalid_client" in ingress.output() or "401" in ingress.output()
    assert ingress.running


async def test_commits_of_groups_continue_when_tokens_expire(
    tokens: TokenServer,
    guarded: tuple[ApacheKafka, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connections are replaced before the broker ends them, so that no commit is without an
    answer. A token is used for all brokers and connections while it is valid.
    """
    for variable, value in _env(tokens, guarded[1], tmp_path, "dispatcher").items():
        monkeypatch.setenv(variable, value)
    topic = KafkaUnderTest(guarded[0].bootstrap_servers, Kind.GIVEN).create_topic("offsets")
    positions = [Position(Partition(topic, 0), 1, "")]
    offsets = GroupOffsets(load(KafkaSettings).options("offsets"))
    ends_at = time.monotonic() + 1.5 * LIFETIME_SECONDS
    try:
        while time.monotonic() < ends_at:
            result = await offsets.commit("knative-group", positions, LIFETIME_SECONDS)
            assert CommitResult(CommitOutcome.STORED) == result
            await asyncio.sleep(0.05)
    finally:
        await offsets.close()
    assert 2 == len(tokens.issued)


async def test_commits_with_a_wrong_secret_are_refused(
    tokens: TokenServer,
    guarded: tuple[ApacheKafka, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the answer of the token endpoint."""
    for variable, value in _env(tokens, guarded[1], tmp_path, "stranger").items():
        monkeypatch.setenv(variable, value)
    offsets = GroupOffsets(load(KafkaSettings).options("offsets"))
    try:
        with pytest.raises(WriteRefused, match="token endpoint answers with status 401"):
            await offsets.read({"knative-group": [Partition("t", 0)]}, LIFETIME_SECONDS)
    finally:
        await offsets.close()
