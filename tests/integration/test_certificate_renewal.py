"""Certificates that are renewed in their files while events flow, on a Kafka that requires client
certificates: no event is lost, and none is delivered twice.
"""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from structlog.testing import capture_logs

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.consumer.feeds import KafkaFeeds
from headrace.adapters.kafka.credential_check import check_credentials
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.domain.errors import HeadraceError, LogUnavailable
from headrace.domain.feed import FeedBounds, FeedConfig, InitialOffset
from headrace.domain.record import Record
from headrace.runtime.kafka_credentials import renewed_options
from headrace.runtime.loading import load
from headrace.runtime.settings import KafkaSettings
from tests.contract.feeds import RecordingListener
from tests.support.certificates import Authority
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.kafka_listeners import kafka_with_listeners
from tests.support.ledger import headers_of, numbered
from tests.support.manifests import broker, trigger
from tests.support.mounted_secret import MountedSecret
from tests.support.wait_until import wait_until, wait_until_async

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SECONDS = 30.0
NAMESPACE = "renewed"


@dataclass(frozen=True, slots=True)
class StrictKafka:
    """A Kafka that accepts certificates of the authorities in `trusted`, which it reads at its
    start.
    """

    apache: ApacheKafka
    address: str
    own: Authority
    """Signs the brokers' certificates."""
    trusted: Path

    def settings(self, secret: MountedSecret) -> dict[str, str]:
        """Environment of a service with this certificate."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.address,
            "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL",
            "HEADRACE_KAFKA_SSL_CA_FILE": str(secret.authorities),
            "HEADRACE_KAFKA_SSL_CERTIFICATE_FILE": str(secret.certificate),
            "HEADRACE_KAFKA_SSL_KEY_FILE": str(secret.key),
        }

    def options(self, secret: MountedSecret) -> tuple[KafkaOptions, Callable[[], Awaitable[None]]]:
        """The options of clients with this certificate, all replaced at once, and what renews
        them.
        """
        settings = load(
            KafkaSettings,
            bootstrap_servers=self.address,
            security_protocol="SSL",
            ssl_ca_file=secret.authorities,
            ssl_certificate_file=secret.certificate,
            ssl_key_file=secret.key,
        )
        options, files = renewed_options(settings, "headrace-test")
        options.credentials.spread_seconds = 0.0
        return options, files.check

    def restart(self, *trusted: Authority) -> None:
        """End all connections, and trust only these authorities from now on."""
        self.trusted.write_bytes(b"".join(each.file.read_bytes() for each in trusted))
        self.apache.kill()
        self.apache.start()


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    """Two that sign clients: the present one, and the next one."""
    return Authority(tmp_path / "present", "present"), Authority(tmp_path / "next", "next")


@pytest.fixture
def strict(tmp_path: Path, authorities: tuple[Authority, Authority]) -> Iterator[StrictKafka]:
    """A Kafka that trusts both."""
    own, trusted = Authority(tmp_path / "kafka-ca", "kafka"), tmp_path / "trusted.pem"
    trusted.write_bytes(b"".join(each.file.read_bytes() for each in authorities))
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(own.sign("kafka-1").store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
        "listener.name.strict.ssl.client.auth": "required",
    }
    with kafka_with_listeners(tmp_path, {"STRICT": "SSL"}, settings) as started:
        yield StrictKafka(started.apache, started.addresses["STRICT"], own, trusted)


def create_topic(strict: StrictKafka, name: str) -> None:
    """Create a topic with one partition."""
    admin = AdminClient({"bootstrap.servers": strict.apache.bootstrap_servers, "log_level": 0})
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result(SECONDS)


class Writer:
    """Appends records one after the other, each again until it is stored."""

    def __init__(self, log: KafkaLog, topic: str) -> None:
        self._log, self._topic = log, topic
        self.stored = 0
        self.refused: list[HeadraceError] = []
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            reports: asyncio.Queue[HeadraceError | None] = asyncio.Queue()
            value = b"%d" % self.stored
            self._log.append(self._topic, Record(None, value, []), reports.put_nowait)
            error = await reports.get()
            if error is None:
                self.stored += 1
            else:
                self.refused.append(error)
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Stop writing; the last record may be stored or not."""
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_short_lived_certificates_are_renewed_while_records_flow(
    tmp_path: Path, strict: StrictKafka, authorities: tuple[Authority, Authority]
) -> None:
    """Each is valid for 20 s and renewed twice. Then all connections are closed: the clients
    connect again, which they could not with any earlier certificate.
    """
    authority, topic = authorities[0], "flow"
    create_topic(strict, topic)
    first = authority.sign_for("first", 20.0)
    first_ends = time.monotonic() + 20.0
    secret = MountedSecret(tmp_path / "secret", first, strict.own.file.read_bytes())
    options, renew = strict.options(secret)
    first_settings = options.credentials.settings
    log, heard = KafkaLog(options), list[int]()
    reader = CompactedTopicReader(
        options, topic, lambda records: heard.extend(each.offset for each in records)
    )
    feeds, listener = KafkaFeeds(options), RecordingListener(finish=True)
    await log.start()
    await reader.start()
    config = FeedConfig(
        group="renewed",
        topics=(topic,),
        bounds=FeedBounds(),
        initial_offset=InitialOffset.EARLIEST,
    )
    feed = feeds.open(config, listener.alarms.append)
    listener.feed = feed
    feed.start(listener)
    writer = Writer(log, topic)
    try:
        await listener.has(100, SECONDS)
        for number in range(2):
            made = authority.sign_for(f"renewed-{number}", 20.0 if number == 0 else 600.0)
            with capture_logs() as logs:
                secret.renew(made)
                await renew()
                await wait_until_async(
                    lambda logs=logs: replaced(logs) >= {"consumer", "follower", "producer"},  # type: ignore[misc]
                    SECONDS,
                    "all clients are replaced",
                )
            (line,) = [each for each in logs if each["event"] == "certificate_renewed"]
            assert 4 == line["clients"], "consumer, follower, producer, topic ids"
            before = len(listener.records)
            await listener.has(before + 100, SECONDS)
            if number == 0:
                await wait_until_async(
                    lambda: time.monotonic() > first_ends + 1.0, SECONDS, "the end of the first"
                )
                with pytest.raises(LogUnavailable, match="alert certificate unknown"):
                    await asyncio.to_thread(check_credentials, options, first_settings)
        assert not writer.refused
        values = [record.value for record in listener.records]
        assert [b"%d" % number for number in range(len(values))] == values
        assert list(range(len(heard))) == heard
        assert not listener.lost
        assert not listener.alarms
        await asyncio.to_thread(strict.restart, *authorities)
        stored, seen = writer.stored, len(listener.records)
        await wait_until_async(lambda: writer.stored > stored + 50, SECONDS, "records are stored")
        await listener.has(seen + 50, SECONDS)
        await writer.stop()
        await wait_until_async(
            lambda: (
                {b"%d" % number for number in range(writer.stored)}
                <= {record.value for record in listener.records}
            ),
            SECONDS,
            "each record that was stored is delivered",
        )
    finally:
        await writer.stop()
        await feed.stop()
        await feeds.close()
        await reader.stop()
        await log.stop()


def replaced(logs: Sequence[dict[str, object]]) -> set[str]:
    """The kinds of clients that were replaced."""
    events = (str(each["event"]) for each in logs)
    return {each.removesuffix("_renewed") for each in events if each.endswith("_renewed")}


async def test_a_certificate_that_kafka_refuses_is_not_used(
    tmp_path: Path, strict: StrictKafka, authorities: tuple[Authority, Authority]
) -> None:
    """The warning has Kafka's reason. It is used once Kafka trusts its authority."""
    stranger = Authority(tmp_path / "stranger", "stranger")
    own = strict.own.file.read_bytes()
    secret = MountedSecret(tmp_path / "secret", authorities[0].sign("service"), own)
    options, renew = strict.options(secret)
    before = options.credentials.settings
    secret.renew(stranger.sign("next"))
    with capture_logs() as logs:
        await renew()
        await renew()
    (line,) = logs
    assert "certificate_not_usable" == line["event"]
    assert "no broker accepts a connection with them: " in line["error"]
    assert "alert bad certificate" in line["error"]
    assert before == options.credentials.settings
    await asyncio.to_thread(strict.restart, stranger)
    with capture_logs() as logs:
        await renew()
    assert ["certificate_renewed"] == [each["event"] for each in logs]
    assert before != options.credentials.settings


class Sender:
    """Posts events to the ingress over one connection, one after the other, each until it is
    accepted.
    """

    def __init__(self, system: HeadraceUnderTest, authority: Path) -> None:
        self._context = ssl.create_default_context(cafile=str(authority))
        self._address = ("127.0.0.1", system.ingress_port)
        self._path = f"/{NAMESPACE}/default"
        self.accepted = 0
        self.connections = 0
        self.errors: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the present event."""
        self._stopping.set()
        self._thread.join(SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.connections += 1
            connection = http.client.HTTPSConnection(
                *self._address, context=self._context, timeout=10.0
            )
            with contextlib.closing(connection):
                try:
                    self._post(connection)
                except (OSError, http.client.HTTPException) as error:
                    self.errors.append(repr(error))

    def _post(self, connection: http.client.HTTPSConnection) -> None:
        while not self._stopping.is_set():
            event = numbered(1, "sender", self.accepted, size=64)
            lines = headers_of(event).decode().splitlines()
            headers = dict(line.partition(": ")[::2] for line in lines)
            connection.request("POST", self._path, event.data, headers)
            response = connection.getresponse()
            response.read()
            if response.status == 202:
                self.accepted += 1
            else:
                self.errors.append(str(response.status))
            self._stopping.wait(0.01)


def certificate_at(port: int) -> str:
    """What a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")


def lines_of(system: HeadraceUnderTest, name: str, event: str) -> list[dict[str, object]]:
    """What a service has logged with this event."""
    found = []
    for line in system.services[name].output().splitlines():
        with contextlib.suppress(ValueError):
            parsed = json.loads(line)
            if parsed.get("event") == event:
                found.append(parsed)
    return found


def test_services_continue_when_the_old_authority_is_no_longer_trusted(
    tmp_path: Path, strict: StrictKafka, authorities: tuple[Authority, Authority]
) -> None:
    """The whole installation, with HTTPS at the ingress. A file that cannot be used has no
    consequence but a warning. When all clients use certificates of the next authority, Kafka no
    longer trusts the present one.
    """
    present, following = authorities
    secret = MountedSecret(
        tmp_path / "kafka-secret", present.sign("service"), strict.own.file.read_bytes()
    )
    web = Authority(tmp_path / "web", "web")
    https = MountedSecret(tmp_path / "https-secret", web.sign("ingress-1"))
    renewed_https = web.sign("ingress-2")
    system = HeadraceUnderTest(
        strict.apache.bootstrap_servers,
        tmp_path,
        env={**strict.settings(secret), "HEADRACE_LOG_LEVEL": "debug"},
        own_env={
            "ingress": {
                "HEADRACE_INGRESS_TLS_CERTIFICATE_FILE": str(https.certificate),
                "HEADRACE_INGRESS_TLS_KEY_FILE": str(https.key),
            }
        },
        ca=web.file,
    )
    sender: Sender | None = None
    try:
        system.start()
        system.establish(
            broker(NAMESPACE), trigger(NAMESPACE, "orders", system.sinks.url("orders"))
        )
        sender = Sender(system, web.file)
        wait_until(lambda: system.sinks.events("orders") > 50, SECONDS, "events flow")
        https.write(b"no certificate", https.key.read_bytes())
        secret.renew(following.sign("service-2"))
        _wait_for_new_clients(system)
        wait_until(
            lambda: lines_of(system, "ingress", "certificate_not_usable"), SECONDS, "a warning"
        )
        assert all(system.is_ready(name) for name in system.services)
        https.renew(renewed_https)
        wait_until(
            lambda: renewed_https.certificate.read_text() == certificate_at(system.ingress_port),
            SECONDS,
            "a new connection has the new certificate",
        )
        accepted = sender.accepted
        wait_until(lambda: sender.accepted > accepted + 50, SECONDS, "events flow")
        assert [] == sender.errors
        assert 1 == sender.connections
        deliveries = Counter(each.event for each in system.sinks.arrivals())
        assert {1} == set(deliveries.values())
        strict.restart(following)
        accepted = sender.accepted
        wait_until(lambda: sender.accepted > accepted + 50, SECONDS, "events flow")
        sender.stop()
        wait_until(
            lambda: system.sinks.events("orders") >= sender.accepted,
            SECONDS,
            "each event that was accepted is delivered",
        )
        for name in system.services:
            system.wait_until_ready(name)
    except BaseException:
        print(system.processes.report())
        raise
    finally:
        if sender is not None:
            sender.stop()
        system.close()


def _wait_for_new_clients(system: HeadraceUnderTest) -> None:
    """Wait until each long-lived client of Kafka is a new one."""
    replacements = {
        "ingress": {"producer_renewed": 1, "follower_renewed": 1},
        "dispatcher-0": {"producer_renewed": 1, "follower_renewed": 1, "consumer_renewed": 2},
        "controller": {"resource_writer_renewed": 1, "follower_renewed": 3},
    }
    for name, events in replacements.items():
        for event, count in events.items():
            wait_until(
                lambda name=name, event=event, count=count: (  # type: ignore[misc]
                    len(lines_of(system, name, event)) >= count
                ),
                2 * SECONDS,
                f"{count} of {event} in {name}",
            )
        (line,) = lines_of(system, name, "certificate_renewed")
        assert "expires" in line
