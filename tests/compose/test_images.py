"""The images of the services: what is in them, how large they are, how fast they start and what
they use when nothing happens. `docs/images.md` states the figures; the limits here are near them.
"""

import json
import os
import re
import subprocess
from datetime import datetime
from typing import Any

import pytest

from tests.compose.stack import CALL_SECONDS, UP_SECONDS, Stack
from tests.support.wait_until import wait_until

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADRACE_TEST_COMPOSE") != "1",
        reason="builds images and starts containers: run by `make test-compose`",
    ),
    pytest.mark.timeout(900),
]

SERVICES = ("ingress", "dispatcher", "controller", "sources")
MEBIBYTES_MAX = {"ingress": 119, "dispatcher": 102, "controller": 205, "sources": 230, "cli": 88}
"""What an image has beyond Python and Debian, on disk: a tenth more than measured."""
MEMORY_MAX = {"ingress": 60, "dispatcher": 75, "controller": 110, "sources": 80}
"""MiB that a service uses with a few resources and events."""
START_SECONDS_MAX = 20.0
"""From the start of the container until it logs that it has started; 2 to 5 s where Kafka runs and
the machine builds nothing.
"""
FOREIGN = {"ingress": "fastapi", "dispatcher": "fastapi", "sources": "fastapi", "cli": "fastapi"}
"""A library of another service."""


def _run(service: str, *command: str) -> str:
    """Run a command in a new container of the image."""
    arguments = ["docker", "run", "--rm", "--network=none", "--read-only", "--entrypoint"]
    done = subprocess.run(
        [*arguments, command[0], f"headrace/{service}:local", *command[1:]],
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _inspected(kind: str, name: str) -> dict[str, Any]:
    done = subprocess.run(
        ["docker", kind, "inspect", name],
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("service", MEBIBYTES_MAX)
def test_an_image_has_its_service_only(service: str) -> None:
    """Its libraries and no others, no package manager, no compiler, and a list of its packages."""
    tools = (
        "import shutil; print([t for t in 'pip uv apt-get dpkg gcc cc'.split() if shutil.which(t)])"
    )
    assert _run(service, "python", "-c", tools).strip() == "[]"
    bill = json.loads(_run(service, "cat", "/opt/headrace/share/headrace/sbom.cdx.json"))
    packages = {each["name"] for each in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert "confluent-kafka" in packages
    assert FOREIGN.get(service) not in packages
    names = (
        "from importlib.metadata import distributions; print(*(x.name for x in distributions()))"
    )
    installed = _run(service, "python", "-c", names).lower().replace("_", "-")
    assert set(installed.split()) <= packages | {"headrace"}
    size = int(_run(service, "du", "-sm", "/opt/headrace").split()[0])
    print(f"{service}: {size} MiB")
    assert size <= MEBIBYTES_MAX[service]


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("service", MEBIBYTES_MAX)
def test_an_image_says_what_it_is(service: str) -> None:
    """Labels of OCI, a numeric user, and a health check where there is something to ask."""
    config = _inspected("image", f"headrace/{service}:local")["Config"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels["title"] == f"headrace-{service}"
    assert labels["licenses"] == "Apache-2.0"
    assert {"version", "revision", "description"} <= set(labels)
    assert config["User"] == "65532:65532"
    assert ("Healthcheck" in config) == (service in SERVICES)


def test_an_unknown_service_is_refused() -> None:
    """With the names that are possible."""
    done = subprocess.run(
        ["docker", "build", "--build-arg", "SERVICE=all-of-it", "-f", "services/Dockerfile", "."],
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    assert "all-of-it" in done.stdout + done.stderr


def _memory_mib(container: str) -> float:
    command = ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_SECONDS, check=True)
    number, unit = re.match(r"([\d.]+)([KMG])iB", done.stdout).groups()  # type: ignore[union-attr]
    return float(number) * {"K": 1 / 1024, "M": 1.0, "G": 1024.0}[unit]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_soon_and_uses_little_memory(stack: Stack, service: str) -> None:
    """The figures of docs/images.md, with room for a loaded machine."""
    stack.compose("up", "--detach", "--wait", timeout=UP_SECONDS)  # Another test may have ended it.
    container = stack.compose("ps", "--quiet", service).strip()
    state = _inspected("container", container)["State"]
    assert state["Health"]["Status"] == "healthy"
    begun = datetime.fromisoformat(f"{state['StartedAt'][:26]}+00:00")

    def started() -> list[str]:
        lines = stack.compose("logs", "--no-log-prefix", "--no-color", service).splitlines()
        return [line for line in lines if '"event": "started"' in line]

    wait_until(started, 10, "the service has started", every=0.5)
    at = datetime.fromisoformat(json.loads(started()[-1])["timestamp"])
    seconds = (at - begun).total_seconds()
    used = _memory_mib(container)
    print(f"{service}: started after {seconds:.1f} s, uses {used:.0f} MiB")
    assert seconds <= START_SECONDS_MAX
    assert used <= MEMORY_MAX[service]
