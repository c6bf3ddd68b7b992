"""The profile `observability`: Prometheus scrapes every service and has the alerts, Grafana has the
dashboards, the collector passes traces on. Each part is tested where its image is. Without that of
the collector, an image is made of the collector of the tests, and removed afterwards. Jaeger is
not tested: a second collector receives the traces in its place.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
import yaml

from tests.compose.stack import ROOT, UP_SECONDS, Stack, docker, has_image
from tests.support import otel_collector
from tests.support.wait_until import wait_until

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADRACE_TEST_COMPOSE") != "1",
        reason="builds images and starts containers: run by `make test-compose`",
    ),
    pytest.mark.timeout(900),
]
IMAGES = {
    name: service["image"]
    for name, service in yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ].items()
    if name in ("prometheus", "grafana", "otel-collector")
}
PROFILE = ("--profile", "observability")
BACKEND = Path(__file__).with_name("traces-backend.yaml")
SCRAPED_SECONDS = 60.0
FILES = ROOT / "charts" / "headrace" / "files"
JOBS = {"ingress", "dispatcher", "controller", "in-memory", "sources"}


def _started(stack: Stack, service: str, port: int) -> str:
    if not has_image(IMAGES[service]):
        pytest.skip(f"not proven here: needs the image {IMAGES[service]}")
    stack.compose(*PROFILE, "up", "--detach", "--wait", service, timeout=UP_SECONDS)
    return stack.url(service, port)


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[str]:
    """The URL of Prometheus."""
    yield _started(stack, "prometheus", 9090)
    stack.compose(*PROFILE, "rm", "--stop", "--force", "prometheus")


@pytest.fixture(scope="module")
def grafana(stack: Stack) -> Iterator[str]:
    """The URL of Grafana."""
    yield _started(stack, "grafana", 3000)
    stack.compose(*PROFILE, "rm", "--stop", "--force", "grafana")


def _get(url: str) -> Any:
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        response = pool.request("GET", url)
        assert response.status == 200, response.data
        return json.loads(response.data)


def test_every_service_is_scraped(stack: Stack, prometheus: str) -> None:
    """By its name in the project."""
    stack.compose("up", "--detach", "--wait", timeout=UP_SECONDS)  # A test may have ended some.

    def up() -> set[str]:
        found = _get(f"{prometheus}/api/v1/query?query={quote('up == 1')}")["data"]["result"]
        return {each["metric"]["instance"].partition(":")[0] for each in found}

    wait_until(lambda: up() == JOBS, SCRAPED_SECONDS, "all are scraped", every=1.0)


def test_the_alerts_are_loaded(prometheus: str) -> None:
    """All of them, and they can be evaluated."""
    document = yaml.safe_load((FILES / "alerts" / "headrace.yaml").read_text())
    wanted = {rule["alert"] for group in document["groups"] for rule in group["rules"]}

    def rules() -> list[dict[str, Any]]:
        groups = _get(f"{prometheus}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    assert {each["name"] for each in rules()} == wanted
    wait_until(
        lambda: all(each["health"] == "ok" for each in rules()),
        SCRAPED_SECONDS,
        "all were evaluated",
        every=1.0,
    )


def test_grafana_has_the_dashboards(grafana: str) -> None:
    """Without a login, and with Prometheus as their source."""
    wait_until(
        lambda: _get(f"{grafana}/api/health")["database"] == "ok", SCRAPED_SECONDS, every=1.0
    )
    found = {each["uid"] for each in _get(f"{grafana}/api/search?type=dash-db")}
    wanted = {
        json.loads(path.read_text(encoding="utf-8"))["uid"]
        for path in (FILES / "dashboards").glob("*.json")
    }
    assert found == wanted


@pytest.fixture(scope="module")
def collector_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of the collector."""
    name = IMAGES["otel-collector"]
    if has_image(name):
        yield name
        return
    directory = tmp_path_factory.mktemp("image")
    shutil.copy(otel_collector.program(), directory / "otelcol")
    (directory / "Dockerfile").write_text(
        'FROM scratch\nCOPY otelcol /otelcol\nUSER 10001\nENTRYPOINT ["/otelcol"]\n'
    )
    docker("build", "--tag", name, str(directory))
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


@dataclass(frozen=True)
class LoggedSpan:
    """A span as a collector writes it to its log."""

    trace_id: str
    name: str
    text: str


@dataclass(frozen=True)
class Backend:
    """The container to which the collector of the profile sends traces."""

    container: str

    def spans_of(self, event_id: str) -> list[LoggedSpan]:
        """Those that it has received about an event."""
        spans = re.split(r"^Span #\d+$", docker("logs", self.container), flags=re.MULTILINE)[1:]
        found = []
        for text in spans:
            if f"cloudevents.event_id: Str({event_id})" in text:
                trace_id = re.search(r"Trace ID +: (\w+)", text)
                name = re.search(r"Name +: (.+)", text)
                assert trace_id and name
                found.append(LoggedSpan(trace_id[1], name[1], text))
        return found


@pytest.fixture(scope="module")
def backend(stack: Stack, collector_image: str) -> Iterator[Backend]:
    """What receives the traces of the services, which export them to the collector."""
    container = docker(
        "run",
        "--detach",
        f"--network={stack.network}",
        "--network-alias=traces-backend",
        f"--volume={BACKEND}:/backend.yaml:ro",
        collector_image,
        "--config=/backend.yaml",
    ).strip()
    names = ("ingress", "dispatcher")
    try:
        with stack.settings(
            OTEL_EXPORTER_OTLP_ENDPOINT="http://otel-collector:4318",
            HEADRACE_TRACES_BACKEND_URL="http://traces-backend:4318",
        ):
            stack.compose(
                *PROFILE,
                "up",
                "--detach",
                "--wait",
                "otel-collector",
                *names,
                timeout=UP_SECONDS,
            )
            yield Backend(container)
    finally:
        stack.compose(*PROFILE, "rm", "--stop", "--force", "otel-collector")
        docker("rm", "--force", container)
        stack.compose("up", "--detach", "--wait", *names, timeout=UP_SECONDS)


def test_a_trace_goes_from_the_services_through_the_collector(
    stack: Stack, backend: Backend
) -> None:
    """Accepted, stored and delivered to both Triggers of the quickstart, in one trace."""
    event_id = str(uuid.uuid4())
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": "/test",
        "ce-type": "order.created",
        "ce-amount": "1500",
    }
    with urllib3.PoolManager(retries=False, timeout=10.0) as pool:
        url = f"{stack.url('ingress', 8080)}/default/default"
        assert 202 == pool.request("POST", url, body=b"{}", headers=headers).status
    names = [
        "accept default/default",
        "deliver default/large-orders",
        "deliver default/orders",
        "send knative-broker-default-default",
    ]
    wait_until(
        lambda: len(backend.spans_of(event_id)) >= len(names),
        SCRAPED_SECONDS,
        "the spans arrive",
        every=1.0,
    )
    spans = backend.spans_of(event_id)
    assert names == sorted(each.name for each in spans)
    assert 1 == len({each.trace_id for each in spans})


@pytest.mark.usefixtures("backend")
def test_the_collector_is_healthy_and_hardened(stack: Stack) -> None:
    """It answers in the network of the services, and can write nothing."""
    check = (
        "import urllib.request as r;"
        "print(r.urlopen('http://otel-collector:13133/', timeout=5).status)"
    )
    assert "200" == stack.compose("exec", "--no-TTY", "ingress", "python", "-c", check).strip()
    (inspected,) = json.loads(
        docker("inspect", stack.compose(*PROFILE, "ps", "--quiet", "otel-collector").strip())
    )
    assert "10001" == inspected["Config"]["User"].partition(":")[0]
    host = inspected["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert ["ALL"] == host["CapDrop"]
    assert not host["PortBindings"]
