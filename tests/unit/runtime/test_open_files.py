"""The limit of open files is raised at the start, connections stay below it, and probes are
answered when the ingress is full.
"""

import re
import socket
import subprocess
import sys
import time

import pytest

from headrace.runtime.open_files import connections_within

SERVICE = """
import asyncio, resource, socket, sys
from headrace.runtime.health import Health
from headrace.runtime.process import ExitCode
from headrace.runtime.management import ManagementPort
from headrace.runtime.metrics import Metrics
from headrace.runtime.service import run_service
from tests.unit.ingress.harness import ingress_harness, request, talk

async def main():
    print("soft", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    async with ingress_harness() as running:
        port = ManagementPort("ingress", Health(), running.metrics, port=0)
        await port.start()
        print("ports", running.ingress.port, port.port, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            pass
        await port.stop()
    return ExitCode.OK

sys.exit(run_service(main))
"""


@pytest.mark.parametrize(
    ("files", "wanted", "allowed"), [(20_000, 4_096, 4_096), (1_024, 4_096, 768), (64, 100, 32)]
)
def test_connections_are_held_below_the_limit(files: int, wanted: int, allowed: int) -> None:
    """A reserve is left for other files."""
    assert allowed == connections_within(
        wanted, setting="HEADRACE_INGRESS_CONNECTIONS_MAX", files=files
    )


def test_a_full_ingress_leaves_probes_and_events_their_files() -> None:
    """With `ulimit -n` 128 (soft) and 256 (hard) and 400 idle clients, /livez and a new event are
    answered.
    """
    command = [
        "sh",
        "-c",
        'ulimit -Sn 128; ulimit -Hn 256; exec "$0" -c "$1"',
        sys.executable,
        SERVICE,
    ]
    clients: list[socket.socket] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while not (lines and lines[-1].startswith("ports")):
                line = process.stdout.readline()
                assert line, lines
                lines.append(line)
            assert any(re.match("soft 256$", line) for line in lines)
            assert any(
                "HEADRACE_INGRESS_CONNECTIONS_MAX" in line and "128" in line for line in lines
            ), lines
            ingress, management = (int(part) for part in lines[-1].split()[1:])
            clients.extend(
                socket.create_connection(("127.0.0.1", ingress), 5.0) for _ in range(400)
            )
            clients.extend(
                socket.create_connection(("127.0.0.1", management), 5.0) for _ in range(100)
            )
            assert _served(management, b"GET /livez HTTP/1.0\r\n\r\n", b"HTTP/1.1 200")
            event = b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\n"
            request = (
                b"POST /shop/orders HTTP/1.1\r\nHost: localhost\r\nConnection:"
                b" close\r\nContent-Length: 0\r\n" + event + b"\r\n"
            )
            assert _served(ingress, request, b"HTTP/1.1 202")
        finally:
            for client in clients:
                client.close()
            process.communicate(timeout=20)
    assert 0 == process.returncode


def _served(port: int, request: bytes, answer: bytes) -> bool:
    """Return whether a new connection is answered within 10 s. A refused connection is retried, as
    probes do.
    """
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 5.0) as client:
                client.sendall(request)
                if client.recv(65_536).startswith(answer):
                    return True
        except OSError:
            pass
    return False
