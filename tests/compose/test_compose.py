"""docker-compose.yml on a real Docker: the quickstart passes, crashed services restart, nothing
listens beyond the loopback.
"""

import base64
import ipaddress
import os
import shutil
import ssl
import subprocess
import uuid
from pathlib import Path

import pytest
import urllib3
import yaml

from tests.compose.stack import CALL_SECONDS, ROOT, UP_SECONDS, Stack, has_image
from tests.support.wait_until import wait_until

ARRIVAL_SECONDS = 30.0
JETSTREAM = """
apiVersion: messaging.knative.dev/v1alpha1
kind: NatsJetStreamChannel
metadata: {name: stream, namespace: default}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: stream, namespace: default}
spec:
  channel: {apiVersion: messaging.knative.dev/v1alpha1, kind: NatsJetStreamChannel, name: stream}
  subscriber: {uri: "http://viewer:8090/stream"}
"""

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADRACE_TEST_COMPOSE") != "1",
        reason="builds images and starts containers: run by `make test-compose`",
    ),
    pytest.mark.timeout(900),
]


def _send(
    stack: Stack,
    *,
    amount: str,
    service: str = "ingress",
    port: int = 8080,
    path: str = "/default/default",
) -> str:
    event_id = str(uuid.uuid4())
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/test",
        "ce-type": "order.created",
        "ce-amount": amount,
    }
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        response = pool.request(
            "POST", f"{stack.url(service, port)}{path}", body=b"{}", headers=headers
        )
        assert (202, b"") == (response.status, response.data)
    return event_id


def test_an_event_reaches_the_matching_triggers(stack: Stack) -> None:
    """The large order reaches both, the small one only the first."""
    large, small = _send(stack, amount="1500"), _send(stack, amount="20")
    wait_until(
        lambda: {"/orders", "/large-orders"} == stack.seen(large),
        ARRIVAL_SECONDS,
        "the large order arrives twice",
        every=0.5,
    )
    wait_until(
        lambda: {"/orders"} == stack.seen(small),
        ARRIVAL_SECONDS,
        "the small order arrives once",
        every=0.5,
    )


def test_the_command_reaches_the_ingress_and_kafka(stack: Stack) -> None:
    """Without options: the environment of the service has their addresses."""
    run = ("run", "--rm", "--no-TTY", "headrace")
    assert "202" in stack.compose(*run, "send", "--type", "order.created", "--data", "{}")
    # It has looked for them in Kafka: what there is none of goes to standard error.
    assert "" == stack.compose(*run, "dead-letters")


def test_a_subscriber_may_be_on_this_machine(stack: Stack) -> None:
    """Services that deliver have a name for it."""
    look = "import socket; print(socket.gethostbyname('host.docker.internal'))"
    for service in ("dispatcher", "in-memory", "sources"):
        address = stack.compose("exec", "--no-TTY", service, "python", "-c", look).strip()
        assert ipaddress.ip_address(address).is_private


def test_an_event_passes_an_in_memory_channel(stack: Stack) -> None:
    """The process that accepts it delivers it."""
    path = "/default/inmemorychannels/notices"
    event_id = _send(stack, amount="1", service="in-memory", port=8082, path=path)
    wait_until(
        lambda: {"/notices"} == stack.seen(event_id),
        ARRIVAL_SECONDS,
        "the notice arrives",
        every=0.5,
    )


def test_an_event_passes_a_channel_in_jetstream(stack: Stack, tmp_path: Path) -> None:
    """With the profile `nats` and its setting; the services are started without them afterwards."""
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["nats"]["image"]
    if not has_image(image):
        pytest.skip(f"not proven here: needs the image {image}")
    (tmp_path / "channel.yaml").write_text(JETSTREAM)
    tmp_path.chmod(0o755)
    try:
        with stack.settings(HEADRACE_NATS_SERVERS="nats://nats:4222"):
            stack.compose("--profile", "nats", "up", "--detach", "--wait", timeout=UP_SECONDS)
            arguments = ("run", "--rm", "--volume", f"{tmp_path}:/own:ro", "headrace")
            stack.compose(
                "--profile",
                "tools",
                *arguments,
                "apply",
                "-f",
                "/own",
                "--wait",
                timeout=UP_SECONDS,
            )
        event_id = _send(stack, amount="1", path="/default/natsjetstreamchannels/stream")
        wait_until(
            lambda: {"/stream"} == stack.seen(event_id),
            ARRIVAL_SECONDS,
            "the event arrives",
            every=0.5,
        )
    finally:
        stack.compose("--profile", "nats", "rm", "--stop", "--force", "nats")
        stack.compose("up", "--detach", "--wait", timeout=UP_SECONDS)


def test_sources_send_events(stack: Stack) -> None:
    """A timer, and a webhook whose token is in a Secret, which the service reads from the API."""
    wait_until(
        lambda: "  /clock  dev.knative.sources.ping" in stack.compose("logs", "viewer"),
        ARRIVAL_SECONDS,
        "the timer's event arrives",
        every=0.5,
    )
    token = "replace-me-by-a-long-random-text"
    with urllib3.PoolManager(retries=False, timeout=20.0) as pool:
        url = f"{stack.url('sources', 8084)}/default/builds"
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        assert pool.request("POST", url, body=b"{}", headers=headers).status in (200, 202)
        wrong = {**headers, "authorization": "Bearer wrong"}
        assert pool.request("POST", url, body=b"{}", headers=wrong).status in (400, 401, 403)
    wait_until(
        lambda: "  /builds  " in stack.compose("logs", "viewer"),
        ARRIVAL_SECONDS,
        "the webhook's event arrives",
        every=0.5,
    )


def test_the_demo_shows_retries_and_dead_letters(stack: Stack) -> None:
    """One subscriber accepts every order; the other answers 503 to some, which arrive again."""

    def shown(service: str) -> list[str]:
        return stack.compose("logs", "--no-log-prefix", "--no-color", service).splitlines()

    def amounts(answer: str) -> set[str]:
        return {line.split()[2] for line in shown("demo-shipping") if line.endswith(f": {answer}")}

    wait_until(
        lambda: any(line.endswith(": 202") for line in shown("demo-billing")),
        ARRIVAL_SECONDS,
        "an order is billed",
        every=0.5,
    )
    wait_until(
        lambda: amounts("503") & amounts("202"),
        2 * ARRIVAL_SECONDS,
        "an order is shipped at a later attempt",
        every=0.5,
    )


def test_an_event_accepted_while_the_dispatcher_is_down_arrives_after_its_restart(
    stack: Stack,
) -> None:
    """What was acknowledged is in Kafka, in a volume."""
    stack.compose("kill", "--signal", "KILL", "dispatcher")
    event_id = _send(stack, amount="20")
    stack.compose("up", "--detach", "--wait", timeout=UP_SECONDS)
    wait_until(
        lambda: {"/orders"} == stack.seen(event_id),
        2 * ARRIVAL_SECONDS,
        "the event arrives after the crash",
        every=0.5,
    )


def test_nothing_listens_beyond_the_loopback_and_no_service_runs_as_root(stack: Stack) -> None:
    """Every published port is on 127.0.0.1; the services run as a numeric user and cannot write to
    their file system.
    """
    published: list[str] = []
    for container in stack.containers():
        publishers = container.get("Publishers") or []
        assert isinstance(publishers, list)
        published += [each["URL"] for each in publishers if each.get("PublishedPort")]
    assert {"127.0.0.1"} == set(published)
    for service in ("ingress", "dispatcher", "controller", "sources", "viewer"):
        assert (
            "65532"
            == stack.compose(
                "exec", "--no-TTY", service, "python", "-c", "import os; print(os.getuid())"
            ).strip()
        )


def test_health_and_metrics_are_served(stack: Stack) -> None:
    """On the management port of each service."""
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        for service, port in (("ingress", 9464), ("dispatcher", 9465), ("controller", 9466)):
            url = stack.url(service, port)
            assert 200 == pool.request("GET", f"{url}/readyz").status
            assert f"headrace_{service}_".encode() in pool.request("GET", f"{url}/metrics").data
        sources = stack.url("sources", 9468)
        assert pool.request("GET", f"{sources}/readyz").status == 200
        assert b"headrace_source_events_total" in pool.request("GET", f"{sources}/metrics").data


def test_the_api_requires_the_generated_token_and_checks_the_host(
    stack: Stack, tmp_path: Path
) -> None:
    """No token is in the repository. The kubeconfig is fetched as README says; a page that rebinds
    its name gets nothing.
    """
    stack.compose("cp", "controller:/run/headrace/kubeconfig", str(tmp_path / "kubeconfig"))
    kubeconfig = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    token = kubeconfig["users"][0]["user"]["token"]
    assert len(token) > 40
    server = stack.url("controller", 8001).replace("http:", "https:")
    url = f"{server}/api/v1/secrets"
    authorization = {"Authorization": f"Bearer {token}"}
    authority = base64.b64decode(
        kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
    ).decode()
    with urllib3.PoolManager(
        retries=False, timeout=10.0, ssl_context=ssl.create_default_context(cadata=authority)
    ) as pool:
        assert 401 == pool.request("GET", url).status
        assert 200 == pool.request("GET", url, headers=authorization).status
        assert (
            403
            == pool.request("GET", url, headers={**authorization, "Host": "evil.example"}).status
        )
    if program := shutil.which("kubectl"):
        # kubectl sends tokens over HTTPS only, so the test uses its own client.
        command = [
            program,
            "--kubeconfig",
            str(tmp_path / "kubeconfig"),
            "--server",
            server,
            "get",
            "triggers",
            "--output",
            "name",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CALL_SECONDS, check=False
        )
        assert "trigger.eventing.knative.dev/orders" in done.stdout.split(), done.stderr
    for file in ("tokens", "tls.key", "kubeconfig"):
        assert (
            "600"
            == stack.compose(
                "exec", "--no-TTY", "controller", "stat", "-c", "%a", f"/run/headrace/{file}"
            ).strip()
        )
    stack.compose("restart", "controller")
    stack.compose("up", "--detach", "--wait", timeout=UP_SECONDS)
    assert "default" in stack.compose("run", "--rm", "--no-TTY", "headrace", "get", "brokers")


def test_services_exit_cleanly_on_request(stack: Stack) -> None:
    """SIGTERM gives exit code 0, well within the grace period."""
    stack.compose("stop", "ingress", "dispatcher", "controller")
    ended = {str(each["Service"]): each["ExitCode"] for each in stack.containers()}
    assert {"ingress": 0, "dispatcher": 0, "controller": 0} == {
        name: ended[name] for name in ("ingress", "dispatcher", "controller")
    }
