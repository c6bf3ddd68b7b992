"""The ACLs of `headrace acls`, on a Kafka that denies everything else: they are enough for every
service, and none of them is unused.
"""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from headrace.adapters.kafka.consumer.positions import Position
from headrace.adapters.kafka.group_offsets.group_offsets import CommitOutcome, GroupOffsets
from headrace.domain.errors import WriteRefused
from headrace.domain.record import Partition
from headrace.runtime.loading import load
from headrace.runtime.settings import KafkaSettings
from headrace_cli.acls import ACLS, Acl, Pattern
from headrace_cli.services import ServiceName
from tests.support.headrace_under_test import HeadraceUnderTest, group_of
from tests.support.kafka import KafkaUnderTest, Kind
from tests.support.kafka_listeners import KafkaWithListeners, kafka_with_listeners
from tests.support.ledger import numbered
from tests.support.manifests import (
    broker,
    broker_config,
    channel,
    delivery,
    subscription,
    trigger,
)
from tests.support.sink_scripts import Mode, Script
from tests.support.wait_until import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
NAMESPACE = "least"
SECONDS = 20.0
CORRECTED_SECONDS = 60.0
"""Settings are compared every 30 s."""
WRONG = "7654321"
PURGED_SECONDS = 90.0
"""The controller deletes finished records, and measures the lag of their groups, once a minute."""
SERVICES = tuple(ServiceName)
RESOURCE_TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS = {
    "Alter": AclOperation.ALTER,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
    "Create": AclOperation.CREATE,
    "Delete": AclOperation.DELETE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
}
DECISION = re.compile(
    r"Principal = User:headrace-([\w-]+) is (Allowed|Denied) operation = (\w+) from host = \S+ on"
    r" resource = (\w+):LITERAL:(\S+) for request = (\w+)"
)
"""A line of the authorizer's log."""


@pytest.fixture
def denying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaWithListeners]:
    """A Kafka with a user for each service, who has the ACLs of `headrace acls`."""
    password = tmp_path / "password"
    password.write_text(secrets.token_urlsafe(24), encoding="ascii")
    users = " ".join(f'user_headrace-{each}="{password.read_text()}"' for each in SERVICES)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    settings = {
        "listener.name.services.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.services.plain.sasl.jaas.config": f"{module} required {users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The brokers themselves and the observer of this test.
        "super.users": "User:ANONYMOUS",
    }
    # Each decision is a line of the log.
    logged = "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-XX:TieredStopAtLevel=1 {logged}")
    protocols = {"SERVICES": "SASL_PLAINTEXT"}
    with kafka_with_listeners(tmp_path, protocols, settings) as started:
        servers = started.apache.bootstrap_servers
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        bindings = [binding for acl in ACLS for binding in _bindings(acl)]
        for future in admin.create_acls(bindings).values():
            future.result(SECONDS)
        yield started


def _bindings(acl: Acl) -> Iterator[AclBinding]:
    kind = RESOURCE_TYPES[acl.type]
    prefixed = acl.pattern is Pattern.PREFIXED
    pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
    for operation in acl.operations:
        yield AclBinding(
            kind,
            acl.name,
            pattern,
            f"User:headrace-{acl.service}",
            "*",
            OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )


def _env(address: str, directory: Path, service: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "HEADRACE_KAFKA_SASL_MECHANISM": "PLAIN",
        "HEADRACE_KAFKA_SASL_USERNAME": f"headrace-{service}",
        "HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(directory / "password"),
    }


def test_each_service_needs_its_acls_and_no_others(
    denying: KafkaWithListeners, tmp_path: Path
) -> None:
    """Brokers, channels, sources, retries, delays and dead letters work, nothing is denied, and
    every operation of every ACL is used.
    """
    address, servers = denying.addresses["SERVICES"], denying.apache.bootstrap_servers
    own = {str(each): _env(address, tmp_path, each) for each in SERVICES}
    system = HeadraceUnderTest(servers, tmp_path, own_env=own)
    try:
        system.run_in_memory()
        system.start()
        system.run_sources()
        _use_everything(system, servers)
    except BaseException:
        print(system.processes.report())
        raise
    finally:
        system.close()
    decisions = [
        found.groups()
        for line in denying.apache.log.read_text().splitlines()
        if (found := DECISION.search(line))
    ]
    assert {each for each in decisions if each[1] == "Denied"} == set()
    used = {
        (service, operation.title().replace("_", ""), kind.lower(), name)
        for service, _, operation, kind, name, _ in decisions
    }
    unused = [
        (acl.service, acl.type, acl.name, operation)
        for acl in ACLS
        for operation in acl.operations
        if not any(_covers(acl, operation, each) for each in used)
    ]
    assert unused == []


async def test_a_dispatcher_may_commit_for_groups_without_joining(
    denying: KafkaWithListeners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ACLs that it has: Describe and Read of the group and of its topics. Other groups and
    other topics are refused.
    """
    for variable, value in _env(denying.addresses["SERVICES"], tmp_path, "dispatcher").items():
        monkeypatch.setenv(variable, value)
    kafka = KafkaUnderTest(denying.apache.bootstrap_servers, Kind.GIVEN)
    own, foreign = (
        Partition(kafka.create_topic(prefix), 0) for prefix in (f"knative-{NAMESPACE}", "foreign")
    )
    group = f"kafka.{NAMESPACE}"
    offsets = GroupOffsets(load(KafkaSettings).options("offsets"))
    begun = len(denying.apache.log.read_text().splitlines())
    try:
        stored = await offsets.commit(group, [Position(own, 3, "m")], SECONDS)
        assert CommitOutcome.STORED == stored.outcome
        read = dict(await offsets.read({group: [own]}, SECONDS))
        assert {group: {own: Position(own, 3, "m")}} == read
        assert {
            ("FindCoordinator", "DESCRIBE", "Group", group),
            ("OffsetCommit", "READ", "Group", group),
            ("OffsetCommit", "READ", "Topic", own.topic),
            ("OffsetFetch", "DESCRIBE", "Group", group),
            ("OffsetFetch", "DESCRIBE", "Topic", own.topic),
        } == {
            (request, operation, kind, resource)
            for line in denying.apache.log.read_text().splitlines()[begun:]
            if (found := DECISION.search(line))
            for service, _, operation, kind, resource, request in [found.groups()]
            if service == "dispatcher"
        }
        for other, partition in (("foreign", own), (group, foreign)):
            refused = await offsets.commit(other, [Position(partition, 3, "")], SECONDS)
            assert CommitOutcome.REFUSED == refused.outcome
            assert isinstance(refused.refused[partition], WriteRefused)
            with pytest.raises(WriteRefused, match=f"{other}.*AUTHORIZATION_FAILED"):
                await offsets.read({other: [partition]}, SECONDS)
        read.clear()
        failed = await offsets.read_each(
            {"foreign": [own], group: [own]}, SECONDS, read.__setitem__
        )
        assert (["foreign"], [group]) == (list(failed), list(read))
    finally:
        await offsets.close()


def _covers(acl: Acl, operation: str, used: tuple[str, str, str, str]) -> bool:
    service, did, kind, name = used
    matches = name.startswith(acl.name) if acl.pattern is Pattern.PREFIXED else name == acl.name
    return (service, did, kind) == (
        acl.service,
        operation,
        acl.type.replace("-", ""),
    ) and matches


def _use_everything(system: HeadraceUnderTest, servers: str) -> None:
    for sink in ("failing", "subscribed"):
        system.sinks.script(sink, Script(status=503))
    orders = broker(NAMESPACE, config="topics")
    pipe = channel(NAMESPACE, "pipe", kind="KafkaChannel")
    good = trigger(NAMESPACE, "good", system.sinks.url("good"))
    # The retry after 0.2 s is read from the retry topic, that after 11 s waits in a delay topic.
    once, later = delivery(retry=1, delay="PT0.2S"), delivery(retry=3, delay="PT11S")
    failing = trigger(NAMESPACE, "failing", system.sinks.url("failing"), delivery=once)
    delayed = trigger(NAMESPACE, "delayed", system.sinks.url("failing"), delivery=later)
    subscribed = subscription(pipe, "subscribed", system.sinks.url("subscribed"), delivery=once)
    to_broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}
    clock = {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": "clock", "namespace": NAMESPACE},
        "spec": {"schedule": "* * * * * *", "sink": {"ref": to_broker}},
    }
    system.establish(broker_config(NAMESPACE, "topics", partitions=1), orders, pipe)
    # What its subscriber replies is posted to the Broker, not appended to its topic.
    memory = channel(NAMESPACE, "memory", kind="InMemoryChannel")
    system.sinks.script("replying", Script(mode=Mode.REPLY, reply_type="answered"))
    replying = subscription(
        memory, "replying", system.sinks.url("replying"), reply={"ref": to_broker}
    )
    system.establish(memory)
    system.establish(good, failing, delayed, subscribed, replying, clock)
    assert 202 == system.send(numbered(1, "w", 1), f"/{NAMESPACE}/default")
    assert 202 == system.send(numbered(1, "w", 2), f"/{NAMESPACE}/kafkachannels/pipe")
    wait_until(lambda: system.sinks.counts("good").get("requests", 0) >= 3, SECONDS, "the clock")
    assert 202 == system.send(numbered(1, "w", 3), f"/{NAMESPACE}/inmemorychannels/memory")
    wait_until(lambda: _replies(system, NAMESPACE), SECONDS, "the reply is in the Broker's topic")
    for each in (failing, subscribed):
        group = (system.get(each) or each)["status"].get("annotations", {}).get("group.id")
        dead = f"{group or group_of(each)}.dead"
        wait_until(lambda dead=dead: system.log.records(dead), SECONDS, f"records in {dead}")  # type: ignore[misc]
    wait_until(
        lambda: sum(system.log.ends(["headrace.delay.10s"]).values()) > 0, SECONDS, "one waits"
    )
    _change_topics(system, servers)
    wait_until(
        lambda: sum(system.log.begins(["headrace.delay.10s"]).values()) > 0,
        PURGED_SECONDS,
        "its record is deleted after the delay",
        every=0.5,
    )
    system.delete(clock, good, failing, delayed, subscribed, replying)
    system.delete(orders, pipe, memory)
    wait_until(
        lambda: not any(each.startswith("knative-") for each in _living(system)),
        SECONDS,
        "topics are deleted",
    )


def _replies(system: HeadraceUnderTest, namespace: str) -> bool:
    records = system.log.records(f"knative-broker-{namespace}-default")
    return any(dict(each.headers).get("ce_type") == b"answered" for each in records)


def _change_topics(system: HeadraceUnderTest, servers: str) -> None:
    """A Broker wants one more partition, and another client has changed settings of topics."""
    topic = f"knative-broker-{NAMESPACE}-default"
    changed = [
        next(each for each in _living(system) if each.startswith(prefix))
        for prefix in ("knative-trigger-", "kafka.")
    ]
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    wrong = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            each,
            incremental_configs=[
                ConfigEntry("retention.ms", WRONG, incremental_operation=AlterConfigOpType.SET)
            ],
        )
        for each in changed
    ]
    for future in admin.incremental_alter_configs(wrong).values():
        future.result(SECONDS)
    system.apply(broker_config(NAMESPACE, "topics", partitions=2))
    wait_until(lambda: len(system.log.ends([topic])) == 2, SECONDS, "a partition is added")
    asked = [ConfigResource(ConfigResource.Type.TOPIC, each) for each in changed]

    def corrected() -> bool:
        found = [each.result(SECONDS) for each in admin.describe_configs(asked).values()]
        return all(each["retention.ms"].value != WRONG for each in found)

    wait_until(corrected, CORRECTED_SECONDS, "the settings are corrected", every=0.5)


def _living(system: HeadraceUnderTest) -> list[str]:
    """The topics, without those of dead letters, which stay."""
    return [each for each in system.log.topics() if not each.endswith(".dead")]
