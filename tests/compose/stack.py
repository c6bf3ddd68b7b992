"""The compose project of the tests, with a name and ports of its own."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.kafka import free_port

ROOT = Path(__file__).parents[2]
UP_SECONDS = 600.0
CALL_SECONDS = 120.0


class Stack:
    """The compose project with its own name and ports."""

    def __init__(self) -> None:
        self._project = f"headrace-test-{uuid.uuid4().hex[:8]}"
        self._environ = {
            **os.environ,
            "HEADRACE_KAFKA_PORT": str(free_port()),
            "COMPOSE_MENU": "false",
        }
        for service in (
            "INGRESS",
            "CONTROLLER",
            "IN_MEMORY",
            "SOURCES",
            "PROMETHEUS",
            "GRAFANA",
            "JAEGER",
        ):
            self._environ[f"HEADRACE_{service}_PORT"] = "0"
        for service in ("INGRESS", "CONTROLLER", "DISPATCHER", "IN_MEMORY", "SOURCES"):
            self._environ[f"HEADRACE_{service}_MANAGEMENT_PORT"] = "0"

    @property
    def network(self) -> str:
        """The network of its containers."""
        return f"{self._project}_default"

    @contextmanager
    def settings(self, **variables: str) -> Iterator[None]:
        """Set variables of `.env.example` for what is started within."""
        before = self._environ
        self._environ = {**before, **variables}
        try:
            yield
        finally:
            self._environ = before

    def compose(self, *arguments: str, timeout: float = CALL_SECONDS) -> str:
        """Run `docker compose`; its standard output. AssertionError with its output when
        it fails.
        """
        command = [
            "docker",
            "compose",
            "--project-name",
            self._project,
            "--file",
            str(ROOT / "docker-compose.yml"),
            *arguments,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert 0 == done.returncode, (
            f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout

    def url(self, service: str, port: int) -> str:
        """Where a port of a service is published on this machine."""
        return f"http://{self.compose('port', service, str(port)).strip()}"

    def containers(self) -> list[Mapping[str, object]]:
        """What runs, as reported by compose."""
        return [
            json.loads(line)
            for line in self.compose("ps", "--all", "--format", "json").splitlines()
        ]

    def seen(self, event_id: str) -> set[str]:
        """The paths on which the viewer received this event."""
        lines = self.compose("logs", "--no-log-prefix", "--no-color", "viewer").splitlines()
        return {
            line.split()[1] for line in lines if f"id {event_id}" in line and len(line.split()) > 1
        }


def docker(*arguments: str) -> str:
    """Run `docker`; both of its outputs. AssertionError with them when it fails."""
    done = subprocess.run(
        ["docker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    assert 0 == done.returncode, f"{arguments}\n{done.stdout[-3000:]}"
    return done.stdout


def has_image(name: str) -> bool:
    """Whether the engine has an image; nothing is pulled."""
    command = ["docker", "image", "inspect", name]
    done = subprocess.run(command, capture_output=True, timeout=CALL_SECONDS, check=False)
    return done.returncode == 0
