"""`headrace up` as a user starts it: the process, its output, and the addresses that it prints."""

import contextlib
import json
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
import yaml

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from headrace.runtime.process import ExitCode
from headrace.runtime.sockets import listen, port_of
from tests.support.headrace_under_test import lasting_port
from tests.support.nats_server import BINARY, UNPROVEN, NatsServer
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

ANY_PORTS = (
    "--port",
    "0",
    "--controller-port",
    "0",
    "--management-port",
    "0",
    "--viewer-port",
    "0",
)
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
UP_SECONDS = 40.0
NO_KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": ""}


def _up(processes: Processes, *arguments: str) -> ServiceProcess:
    # If an option is given twice, the last one is used.
    return processes.headrace("up", *ANY_PORTS, "--kubeconfig-out", "-", *arguments, env=NO_KAFKA)


def _address(process: ServiceProcess, what: str) -> str:
    found = re.search(rf"{what}\s+(http://\S+)", process.output())
    assert found is not None, process.output()
    return found.group(1)


def _post(url: str, *, kind: str, amount: str = "20") -> tuple[int, str]:
    event_id = str(uuid.uuid4())
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/test",
        "ce-type": kind,
        "ce-amount": amount,
    }
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        return pool.request("POST", url, body=b"{}", headers=headers).status, event_id


def _paths(process: ServiceProcess, event_id: str) -> list[str]:
    return sorted(
        line.split()[1] for line in process.output().splitlines() if f"id {event_id}" in line
    )


@pytest.mark.timeout(120)
def test_it_shows_a_first_event_and_takes_the_next(processes: Processes) -> None:
    """This takes seconds, without Docker, Java or Kafka. Ctrl-C ends it cleanly."""
    begun = time.monotonic()
    process = _up(processes)
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    print(f"up and the first event shown after {time.monotonic() - begun:.1f} s")
    assert "GONE when this ends" in process.output()
    ingress = f"{_address(process, 'ingress')}/default/default"
    status, event_id = _post(ingress, kind="order.created")
    assert 202 == status
    wait_until(
        lambda: ["/orders"] == _paths(process, event_id), 10, "the small order is shown once"
    )
    status, event_id = _post(ingress, kind="order.created", amount="5000")
    wait_until(
        lambda: ["/large-orders", "/orders"] == _paths(process, event_id),
        10,
        "the large order is shown twice",
    )
    status, other = _post(ingress, kind="invoice.created")
    assert (202, []) == (status, _paths(process, other))
    with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
        health = _address(process, "health, metrics")
        assert 200 == pool.request("GET", health).status
        metrics = pool.request("GET", health.replace("/readyz", "/metrics")).data.decode()
    assert "headrace_ingress_" in metrics
    assert "headrace_dispatcher_" in metrics
    process.interrupt()
    assert ExitCode.OK == process.wait(20)
    assert "Stopping: requests in flight end first." in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.timeout(120)
def test_manifests_of_ones_own_take_the_place_of_the_quickstart(
    processes: Processes, tmp_path: Path
) -> None:
    """A directory of manifests is applied, and no sample event is sent to them."""
    (tmp_path / "broker.yaml").write_text(
        "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: mine, namespace:"
        " team}}"
    )
    process = _up(processes, "-f", str(tmp_path))
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    assert "Broker team/mine is ready" in process.output()
    assert "first event" not in process.output()
    assert 202 == _post(f"{_address(process, 'ingress')}/team/mine", kind="x")[0]
    assert ExitCode.OK == process.stop()


@pytest.mark.timeout(120)
def test_the_example_of_channels_is_delivered_twice(processes: Processes, tmp_path: Path) -> None:
    """As the README has it, which are the objects of examples/channels in ten lines at most: each
    of the two Subscriptions gets an event, and the curl line that is printed posts to the Channel.
    """
    example = (EXAMPLES / "channels" / "channels.yaml").read_text()
    section = (ROOT / "README.md").read_text().partition("## A Channel with two Subscriptions\n")[2]
    shown = section.partition("```yaml\n")[2].partition("```")[0]
    assert list(yaml.safe_load_all(shown)) == list(yaml.safe_load_all(example))
    assert len(shown.splitlines()) <= 10
    port = lasting_port()
    manifests = shown.replace("127.0.0.1:8090/", f"127.0.0.1:{port}/")
    (tmp_path / "channels.yaml").write_text(manifests)
    process = _up(processes, "-f", str(tmp_path), "--viewer-port", str(port))
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    address = f"{_address(process, 'ingress')}/default/kafkachannels/orders"
    assert f"curl -i {address} " in process.output()
    status, event_id = _post(address, kind="order.created")
    assert 202 == status
    wait_until(
        lambda: ["/billing", "/shipping"] == _paths(process, event_id), 10, "both have the event"
    )
    assert ExitCode.OK == process.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("example", "plural", "name"),
    [
        ("kafka-channel", "kafkachannels", "payments"),
        ("in-memory-channel", "inmemorychannels", "notices"),
        ("nats-jetstream-channel", "natsjetstreamchannels", "shipments"),
    ],
)
def test_the_example_of_each_kind_of_channel_is_delivered(
    processes: Processes, tmp_path: Path, example: str, plural: str, name: str
) -> None:
    """One directory for each kind that backs a Channel."""
    options: tuple[str, ...] = ()
    if "nats" in example:
        if BINARY is None:
            pytest.skip(UNPROVEN)
        server = NatsServer(tmp_path / "nats")
        server.start()
        options = ("--nats-servers", server.url)
    port = lasting_port()
    manifests = (EXAMPLES / example / f"{example}.yaml").read_text()
    (tmp_path / "channel.yaml").write_text(
        manifests.replace("127.0.0.1:8090/", f"127.0.0.1:{port}/")
    )
    manifest = str(tmp_path / "channel.yaml")
    process = _up(processes, "-f", manifest, "--viewer-port", str(port), *options)
    try:
        process.wait_for("Ctrl-C ends.", UP_SECONDS)
        address = f"{_address(process, 'ingress')}/default/{plural}/{name}"
        assert f"curl -i {address} " in process.output()
        status, event_id = _post(address, kind="created")
        assert 202 == status
        wait_until(lambda: [f"/{name}"] == _paths(process, event_id), 10, "the event is shown")
        assert ExitCode.OK == process.stop()
    finally:
        if options:
            server.kill()


@pytest.mark.timeout(120)
def test_the_example_of_a_sequence_passes_both_steps(processes: Processes, tmp_path: Path) -> None:
    """examples/sequence: the answer of the last step is shown."""
    steps, viewer = _example(processes, "sequence", "steps.py", 8091, tmp_path)
    process = _up(processes, "-f", str(tmp_path), "--viewer-port", str(viewer))
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    assert "Sequence default/orders is ready" in process.output()
    address = f"{_address(process, 'ingress')}/default/kafkachannels/orders-kn-sequence-0"
    assert f"curl -i {address} " in process.output()
    status, event_id = _post(address, kind="order.created")
    assert 202 == status
    wait_until(lambda: ["/priced"] == _paths(process, event_id), 10, "the answer is shown")
    assert "order.created.check.price" in process.output()
    assert ExitCode.OK == process.stop()
    steps.stop()


@pytest.mark.timeout(120)
def test_the_example_of_a_parallel_filters_a_branch(processes: Processes, tmp_path: Path) -> None:
    """examples/parallel: a large order comes twice, a small one once."""
    filters, viewer = _example(processes, "parallel", "filter.py", 8092, tmp_path)
    process = _up(processes, "-f", str(tmp_path), "--viewer-port", str(viewer))
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    address = f"{_address(process, 'ingress')}/default/kafkachannels/orders-kn-parallel"
    _, large = _post(address, kind="order.created", amount="5000")
    _, small = _post(address, kind="order.created", amount="5")
    wait_until(lambda: ["/all", "/large"] == _paths(process, large), 10, "the large one twice")
    wait_until(lambda: ["/all"] == _paths(process, small), 10, "the small one once")
    assert ExitCode.OK == process.stop()
    filters.stop()


def _example(
    processes: Processes, name: str, script: str, port: int, directory: Path
) -> tuple[ServiceProcess, int]:
    """Start the services of an example, and write its manifest for their port and another port of
    the viewer, which is returned.
    """
    own, viewer = lasting_port(), lasting_port()
    started = processes.start(name, [sys.executable, str(EXAMPLES / name / script), str(own)])
    started.wait_for(f"on port {own}", 20)
    manifest = (EXAMPLES / name / f"{name}.yaml").read_text()
    for before, after in ((port, own), (8090, viewer)):
        manifest = manifest.replace(f"127.0.0.1:{before}/", f"127.0.0.1:{after}/")
    (directory / f"{name}.yaml").write_text(manifest)
    return started, viewer


BUSY_THREAD = """
import time
from concurrent.futures import ThreadPoolExecutor
import headrace_cli.up as up
from headrace.runtime.process import ExitCode
from headrace_cli.main import application

def run(*arguments):
    ThreadPoolExecutor(1).submit(time.sleep, 60)
    return ExitCode.OK

up._run = run
application(["up"])(["up", "--kubeconfig-out", "-"])
"""


def test_a_request_that_is_not_answered_does_not_delay_its_end(processes: Processes) -> None:
    """Such as one to the embedded Kafka, which has stopped: the thread waits for its deadline."""
    process = processes.start("up", [sys.executable, "-c", BUSY_THREAD])
    process.wait_for("Stopped.", UP_SECONDS)
    assert ExitCode.OK == process.wait(10)


@pytest.mark.timeout(120)
def test_no_trigger_reaches_our_own_ports(processes: Processes, tmp_path: Path) -> None:
    """A suitable event would have created a Namespace. It becomes a dead letter, and the condition
    shows the reason before the first event.
    """
    process = _up(
        processes, "-f", str(_written(tmp_path, {"kind": "Broker", "metadata": {"name": "b"}}))
    )
    process.wait_for("Ctrl-C ends.", UP_SECONDS)
    api = _address(process, "controller API")
    management = _address(process, "health, metrics").removesuffix("/readyz")
    targets = {"api": f"{api}/api/v1/namespaces", "management": f"{management}/metrics"}
    targets["spelled"] = targets["api"].replace("127.0.0.1", "0x7f.1")
    triggers = f"{api}/apis/eventing.knative.dev/v1/namespaces/default/triggers"
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        for name, uri in targets.items():
            _create_trigger(pool, triggers, name, uri)
        for name in targets:
            wait_until(
                lambda name=name: (  # type: ignore[misc]
                    "which takes no events" in _delivery_message(pool, f"{triggers}/{name}")
                ),
                15,
                f"{name} is denied",
            )
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "taken-over"}}
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "/x",
            "ce-type": "x",
            "content-type": "application/json",
        }
        url = f"{_address(process, 'ingress')}/default/b"
        assert (
            202
            == pool.request(
                "POST", url, body=json.dumps(namespace).encode(), headers=headers
            ).status
        )
        refused = [
            f'headrace_dead_lettered_total{{kind="Trigger",name="{name}",'
            'namespace="default",reason="refused"} 1.0'
            for name in targets
        ]
        wait_until(
            lambda: _all_in(pool, f"{management}/metrics", refused),
            15,
            "the events are dead letters",
        )
        assert 404 == pool.request("GET", f"{api}/api/v1/namespaces/taken-over").status
    assert ExitCode.OK == process.stop()


def _create_trigger(pool: urllib3.PoolManager, triggers: str, name: str, uri: str) -> None:
    body = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": name},
        "spec": {"broker": "b", "subscriber": {"uri": uri}},
    }
    answer = pool.request(
        "POST",
        triggers,
        body=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    assert 201 == answer.status, answer.data


def _delivery_message(pool: urllib3.PoolManager, url: str) -> str:
    """Return the message of the Trigger's condition DeliveryHealthy, empty without one."""
    conditions = pool.request("GET", url).json().get("status", {}).get("conditions", [])
    return next(
        (each.get("message", "") for each in conditions if each["type"] == "DeliveryHealthy"), ""
    )


def _written(directory: Path, *objects: dict[str, object]) -> Path:
    for number, each in enumerate(objects):
        (directory / f"{number}.yaml").write_text(
            json.dumps({"apiVersion": "eventing.knative.dev/v1", **each})
        )
    return directory


def _all_in(pool: urllib3.PoolManager, url: str, wanted: list[str]) -> bool:
    page = pool.request("GET", url).data.decode()
    return all(each in page for each in wanted)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("option", "purpose"),
    [
        ("--port", "the ingress"),
        ("--controller-port", "the controller's API"),
        ("--management-port", "the management port (health, metrics)"),
        ("--viewer-port", "the event viewer"),
    ],
)
def test_a_port_in_use_is_named(processes: Processes, option: str, purpose: str) -> None:
    """The error names the owner of the port and what to do, and nothing keeps running."""
    with listen("127.0.0.1", 0, purpose="the test", option="") as taken:
        port = str(port_of(taken))
        process = _up(processes, option, port)
        assert ExitCode.NOT_STARTED == process.wait(UP_SECONDS)
    said = process.output()
    assert f"{purpose} cannot listen on 127.0.0.1:{port}: the port is in use by" in said
    assert f"choose another port with {option}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2"), "--workers needs a Kafka that several processes can share"),
        (("--kafka", "apache", "--bootstrap-servers", "x:1"), "give one of them"),
        (("-f", "/no/such/file.yaml"), "/no/such/file.yaml: No such file"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    processes: Processes, arguments: tuple[str, ...], message: str
) -> None:
    """The error is reported before anything is started."""
    process = _up(processes, *arguments)
    assert ExitCode.NOT_STARTED == process.wait(UP_SECONDS)
    assert message in process.output()
    assert 1 == len(process.output().splitlines())


@contextlib.contextmanager
def _running(processes: Processes, *arguments: str) -> Iterator[ServiceProcess]:
    process = _up(processes, *arguments)
    process.wait_for("Ctrl-C ends.", 60)
    yield process
    assert ExitCode.OK == process.stop(30)


@pytest.mark.kafka
@pytest.mark.timeout(150)
def test_on_a_real_kafka_it_comes_back_to_what_it_was(
    private_kafka: ApacheKafka, processes: Processes
) -> None:
    """Deletions and changes persist, and no sample event is sent. Several ingress workers share the
    port.
    """
    servers = private_kafka.bootstrap_servers
    with _running(processes, "--bootstrap-servers", servers) as process:
        assert (
            202 == _post(f"{_address(process, 'ingress')}/default/default", kind="order.created")[0]
        )
        viewer = _address(process, "event viewer").rpartition(":")[2]
        health = _address(process, "health, metrics")
        triggers = _address(process, "controller API")
        triggers += "/apis/eventing.knative.dev/v1/namespaces/default/triggers"
        with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
            settings = pool.request("GET", health.replace("/readyz", "/configz")).json()
            assert settings["HEADRACE_KAFKA_BOOTSTRAP_SERVERS"] == servers
            pool.request("DELETE", f"{triggers}/large-orders")
            wait_until(
                lambda: 404 == pool.request("GET", f"{triggers}/large-orders").status,
                20,
                "the Trigger is gone",
            )
            moved = {"spec": {"subscriber": {"uri": f"http://127.0.0.1:{viewer}/moved"}}}
            merge = {"Content-Type": "application/merge-patch+json"}
            assert (
                200
                == pool.request(
                    "PATCH", f"{triggers}/orders", body=json.dumps(moved), headers=merge
                ).status
            )
    with _running(
        processes, "--bootstrap-servers", servers, "--workers", "2", "--viewer-port", viewer
    ) as process:
        assert "1 Broker and 1 Trigger are as they were" in process.output()
        assert "first event" not in process.output()
        ingress = f"{_address(process, 'ingress')}/default/default"
        assert f"curl -i {ingress} " in process.output()
        status, event_id = _post(ingress, kind="order.created", amount="5000")
        assert 202 == status
        wait_until(lambda: ["/moved"] == _paths(process, event_id), 20, "the event is shown")
