"""An OpenTelemetry collector for tests: the real one, with the configuration of the profile
`observability`.
"""

import contextlib
import subprocess
from functools import cache
from pathlib import Path

import pytest
import urllib3

from tests.support.kafka import free_port
from tests.support.processes import Processes
from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples/observability/otel-collector.yaml"
START_SECONDS = 20.0
BUILD_SECONDS = 30.0


@cache
def program() -> Path:
    """The program. The test is skipped, with the reason, where it has not been built: that takes
    some minutes.
    """
    found = subprocess.run(
        [ROOT / ".ci/go-program", "otel-collector", "--built"],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    if found.returncode:
        pytest.skip(f"not proven here: needs an OpenTelemetry collector; {found.stderr.strip()}")
    return Path(found.stdout.strip())


class OtelCollector:
    """A collector on loopback that sends what it receives to `backend`, a URL for OTLP over
    HTTP.
    """

    def __init__(self, processes: Processes, *, backend: str) -> None:
        """Start it, and wait until it answers its health check."""
        ports = {
            name: free_port()
            for name in (
                "receivers.otlp.protocols.http",
                "receivers.otlp.protocols.grpc",
                "extensions.health_check",
            )
        }
        http, self.grpc_port, self._health_port = ports.values()
        self.http_url = f"http://127.0.0.1:{http}"
        self._pool = urllib3.PoolManager(retries=False, timeout=2.0)
        process = processes.start(
            "otel-collector",
            [
                str(program()),
                f"--config={CONFIG}",
                *(f"--set={name}.endpoint=127.0.0.1:{port}" for name, port in ports.items()),
                # Its own metrics have a port that is the same for all collectors.
                "--set=service.telemetry.metrics.level=none",
            ],
            env={"TRACES_BACKEND_URL": backend},
        )
        wait_until(self.healthy, START_SECONDS, f"the collector is ready: {process.tail()}")

    def healthy(self) -> bool:
        """Whether its health check succeeds."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            url = f"http://127.0.0.1:{self._health_port}/"
            return self._pool.request("GET", url).status == 200
        return False
