"""Readiness of services and resources while a real Kafka is frozen, killed and restarted, without
traffic.
"""

import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from headrace.adapters.kafka.control.instances import LIVE_SECONDS
from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.domain.control_topics import INSTANCES_TOPIC, ROUTING_TOPIC
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.kafka import free_port
from tests.support.manifests import broker, trigger
from tests.support.processes import Processes
from tests.support.wait_until import wait_until

NOTICED_SECONDS = 10.0
BACK_SECONDS = 30.0


def page(port: int, name: str) -> tuple[int, str]:
    """Return status and text of a page of a management port; status 0 without an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_an_unavailable_kafka_shows_in_readiness_and_not_in_liveness(
    private_kafka: ApacheKafka, processes: Processes
) -> None:
    """Kafka is first frozen, then killed. Both times it recovers, and so does readiness. An outage
    of two seconds does not affect readiness.
    """
    admin = AdminClient({"bootstrap.servers": private_kafka.bootstrap_servers})
    wanted = [
        NewTopic(name, num_partitions=1, replication_factor=1, config={"cleanup.policy": "compact"})
        for name in (ROUTING_TOPIC, INSTANCES_TOPIC)
    ]
    for made in admin.create_topics(wanted).values():
        made.result(20)
    ports = {"ingress": free_port(), "dispatcher": free_port()}
    for service, port in ports.items():
        own = ["--port", "0"] if service == "ingress" else []
        processes.headrace(
            service,
            *own,
            "--bootstrap-servers",
            private_kafka.bootstrap_servers,
            "--management-port",
            str(port),
        )
    back(ports, 60)

    private_kafka.pause()
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert {200} == {page(port, "readyz")[0] for port in ports.values()}
    noticed(ports, since=until - 2.5)
    private_kafka.cont()
    back(ports, BACK_SECONDS)

    private_kafka.kill()
    noticed(ports, since=time.monotonic())
    private_kafka.start()
    back(ports, BACK_SECONDS)


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["frozen", "dead"])
def test_resources_stay_ready_when_kafka_was_unavailable(
    private_kafka: ApacheKafka, tmp_path: Path, how: str
) -> None:
    """For longer than a process may be silent: their reports could not arrive. After it, no
    resource has stopped being Ready, which its Events would show.
    """
    system = HeadraceUnderTest(private_kafka.bootstrap_servers, tmp_path)
    try:
        system.start()
        manifests = [broker("ns"), trigger("ns", "orders", system.sinks.url("orders"))]
        system.establish(*manifests)
        if how == "frozen":
            private_kafka.pause()
        else:
            private_kafka.kill()
        try:
            time.sleep(LIVE_SECONDS + 4)
        finally:
            if how == "frozen":
                private_kafka.cont()
            else:
                private_kafka.start()
        until = time.monotonic() + LIVE_SECONDS
        while time.monotonic() < until:
            for each in manifests:
                conditions = (system.get(each) or {})["status"]["conditions"]
                (ready,) = (one for one in conditions if one["type"] == "Ready")
                assert "True" == ready["status"], ready
            time.sleep(0.1)
        events = system.call("GET", "/api/v1/namespaces/ns/events")["items"]
        assert {"Normal"} == {each["type"] for each in events}, events
    finally:
        system.close()


def noticed(ports: dict[str, int], *, since: float) -> None:
    """Check that each service reports within ten seconds which check failed and since when, and
    that all are alive.
    """
    wait_until(
        lambda: {503} == {page(port, "readyz")[0] for port in ports.values()},
        since + NOTICED_SECONDS - time.monotonic(),
        "not ready",
    )
    for service, port in ports.items():
        assert (
            f"[-]{service}-kafka failed: Kafka has stored nothing from this process since 2"
            in page(port, "readyz?verbose")[1]
        )
        assert page(port, "livez")[0] == 200


def back(ports: dict[str, int], seconds: float) -> None:
    """Check that all services become ready."""
    wait_until(
        lambda: {200} == {page(port, "readyz")[0] for port in ports.values()},
        seconds,
        "ready",
        every=0.1,
    )
