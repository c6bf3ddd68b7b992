"""What every service shows on its management port, and the order in which it ends: it reports that
it is not ready, keeps serving, finishes, and leaves with exit code 0.
"""

import json
import re
from collections.abc import Iterator

import pytest
import urllib3

from headrace import __version__
from tests.integration.test_sources import ADAPTER
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.installations import installation
from tests.support.manifests import broker
from tests.support.wait_until import wait_until

NAMESPACE = "pages"
SERVICES = ("ingress", "dispatcher-0", "controller", "sources-0", "in-memory")
DELAY_SECONDS = 3.0
DELAYS = {
    f"HEADRACE_{name}_SHUTDOWN_DELAY_SECONDS": str(DELAY_SECONDS)
    for name in ("INGRESS", "SOURCES", "CONTROLLER")
}
CHECKS = {
    "ingress": {"ingress", "ingress-kafka"},
    "dispatcher-0": {"dispatcher", "dispatcher-kafka"},
    "controller": {"controller"},
    "sources-0": {"sources", "sources-kafka"},
    "in-memory": {"ingress", "ingress-kafka", "dispatcher", "dispatcher-kafka"},
}
"""The readiness checks of a service, beside `started` and `shutdown`."""
PASSWORD = "let-me-in"
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
_http = urllib3.PoolManager(timeout=5.0, retries=False)


@pytest.fixture(scope="module")
def headrace(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HeadraceUnderTest]:
    """An installation with a process of each service."""
    directory = tmp_path_factory.mktemp("pages")
    password = directory / "password"
    password.write_text(PASSWORD)
    # Not used with the protocol PLAINTEXT; /configz shows the path.
    secret = {"HEADRACE_KAFKA_SASL_PASSWORD_FILE": str(password)}
    env = {**ADAPTER, **DELAYS, **secret}
    with installation("apache", request, directory, env=env, in_memory=True, sources=1) as started:
        started.establish(broker(NAMESPACE))
        for name in SERVICES:
            started.wait_until_ready(name)
        yield started


def _page(headrace: HeadraceUnderTest, service: str, page: str) -> tuple[int, str]:
    answer = _http.request("GET", f"{headrace.management_url(service)}{page}")
    return answer.status, answer.data.decode()


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_every_page(headrace: HeadraceUnderTest, service: str) -> None:
    """With its checks by name, its metrics, its version and its settings."""
    assert {200} == {_page(headrace, service, each)[0] for each in ("/livez", "/startupz")}
    status, text = _page(headrace, service, "/readyz?verbose")
    assert 200 == status
    found = set(re.findall(r"^\[\+\]([\w-]+) ok$", text, re.MULTILINE))
    assert {"started", "shutdown", *CHECKS[service]} <= found, text
    name = service.removesuffix("-0")
    metrics = headrace.metrics(service)
    assert f'headrace_build_info{{component="{name}",version="{__version__}"}} 1.0' in metrics
    assert f'headrace_ready{{component="{name}"}} 1.0' in metrics
    assert "headrace_routing_offset{" in metrics
    version = json.loads(_page(headrace, service, "/version")[1])
    assert (name, __version__) == (version["service"], version["version"])
    settings = headrace.settings(service)
    assert {"HEADRACE_LOG_LEVEL", "HEADRACE_MANAGEMENT_PORT"} <= settings.keys()
    assert PASSWORD not in json.dumps(settings)


def _serves(headrace: HeadraceUnderTest, service: str) -> bool:
    """Whether a service still does what others connect to it for."""
    match service:
        case "ingress":
            return 202 == headrace.post(f"/{NAMESPACE}/default", EVENT, b"x")
        case "controller":
            return 200 == headrace.request_api("GET", "/version", None).status
        case "in-memory":
            url = f"{headrace.channel_url}/{NAMESPACE}/inmemorychannels/none"
            return 404 == _http.request("POST", url, headers=EVENT, body=b"x").status
        case _:
            url = _addresses(headrace, service)["receiver"]
            return 404 == _http.request("POST", f"{url}/none", body=b"x").status


def _addresses(headrace: HeadraceUnderTest, service: str) -> dict[str, str]:
    lines = headrace.services[service].output().splitlines()
    started = (json.loads(each) for each in lines if '"event": "started"' in each)
    return dict(next(started))


@pytest.mark.parametrize("service", ["ingress", "sources-0", "in-memory", "controller"])
def test_what_others_connect_to_serves_for_a_while_after_sigterm(
    headrace: HeadraceUnderTest, service: str
) -> None:
    """Its readiness fails at once, and names the signal; it is alive and has started all the
    while.
    """
    process = headrace.services[service]
    process.terminate()
    wait_until(lambda: 503 == _page(headrace, service, "/readyz")[0], 10.0, "it is not ready")
    assert _serves(headrace, service)
    assert "shutdown" in _page(headrace, service, "/readyz?verbose")[1]
    assert "SIGTERM" in _page(headrace, service, "/readyz?verbose")[1]
    assert {200} == {_page(headrace, service, each)[0] for each in ("/livez", "/startupz")}
    assert f'headrace_ready{{component="{service.removesuffix("-0")}"}} 0.0' in headrace.metrics(
        service
    )
    assert 0 == process.wait()
    assert re.search(r'"event": "stopping".*"event": "stopped"', process.output(), re.DOTALL)


def test_a_dispatcher_finishes_commits_and_leaves_without_a_delay(
    headrace: HeadraceUnderTest,
) -> None:
    """Nothing connects to it."""
    process = headrace.services["dispatcher-0"]
    assert 0 == process.stop(timeout=DELAY_SECONDS + 20.0)
    assert re.search(r'"event": "stopping".*"event": "stopped"', process.output(), re.DOTALL)
