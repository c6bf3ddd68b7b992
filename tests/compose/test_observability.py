"""The profile `observability`: Prometheus scrapes every service and has the alerts, Grafana has the
dashboards. Each part is tested where its image is.
"""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
import yaml

from tests.compose.stack import ROOT, UP_SECONDS, Stack, has_image
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
    if name in ("prometheus", "grafana")
}
SCRAPED_SECONDS = 60.0
FILES = ROOT / "charts" / "headrace" / "files"
JOBS = {"ingress", "dispatcher", "controller", "in-memory", "sources"}


def _started(stack: Stack, service: str, port: int) -> str:
    if not has_image(IMAGES[service]):
        pytest.skip(f"not proven here: needs the image {IMAGES[service]}")
    profile = ("--profile", "observability")
    stack.compose(*profile, "up", "--detach", "--wait", service, timeout=UP_SECONDS)
    return stack.url(service, port)


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[str]:
    """The URL of Prometheus."""
    yield _started(stack, "prometheus", 9090)
    stack.compose("--profile", "observability", "rm", "--stop", "--force", "prometheus")


@pytest.fixture(scope="module")
def grafana(stack: Stack) -> Iterator[str]:
    """The URL of Grafana."""
    yield _started(stack, "grafana", 3000)
    stack.compose("--profile", "observability", "rm", "--stop", "--force", "grafana")


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
