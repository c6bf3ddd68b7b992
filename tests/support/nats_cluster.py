"""Three NATS servers with JetStream that form a cluster on loopback, for tests that stop some of
them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.adapters.nats.connection import NatsConnection
from headrace.adapters.nats.options import NatsOptions
from tests.support.kafka import free_port
from tests.support.nats_server import BINARY, UNPROVEN, NatsServer

SERVERS = 3


class NatsCluster:
    """The servers by name; none is started."""

    def __init__(self, directory: Path) -> None:
        ports = [free_port() for _ in range(SERVERS)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.servers = {
            f"n{number}": NatsServer(
                directory / f"n{number}",
                settings=(
                    f"server_name: n{number}\n"
                    f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
                ),
            )
            for number, port in enumerate(ports)
        }

    @property
    def options(self) -> NatsOptions:
        """Options of the adapters, with the URLs of all servers."""
        urls = tuple(server.url for server in self.servers.values())
        # An election may take longer than an answer of one server.
        return NatsOptions(servers=urls, timeout_seconds=2.0)

    async def replicas(
        self, connection: NatsConnection, stream: str, consumer: str = ""
    ) -> tuple[int, int]:
        """How many servers are to have a stream, or one of its durable consumers, and how many have
        all of it, its leader included; (0, 0) without a leader.
        """
        kind, name = ("CONSUMER", f"{stream}.{consumer}") if consumer else ("STREAM", stream)
        cluster = (await connection.call(f"{kind}.INFO.{name}")).get("cluster") or {}
        if not cluster.get("leader"):
            return 0, 0
        others = cluster.get("replicas") or ()
        return 1 + len(others), 1 + sum(each["current"] for each in others)

    async def leader(self, connection: NatsConnection, stream: str) -> NatsServer:
        """The server that leads a stream."""
        answer = await connection.call(f"STREAM.INFO.{stream}")
        return self.servers[answer["cluster"]["leader"]]

    def kill(self) -> None:
        """End all of them. Idempotent."""
        for server in self.servers.values():
            server.kill()


@pytest.fixture
def nats_cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Servers for this test alone, to be started by it."""
    if BINARY is None:
        pytest.skip(UNPROVEN)
    cluster = NatsCluster(tmp_path / "nats")
    try:
        yield cluster
    finally:
        cluster.kill()
