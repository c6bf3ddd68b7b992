"""An installation in one process on the embedded Kafka, as `headrace up` runs it, with the
interface of `HeadraceUnderTest`.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.headrace_under_test import HeadraceUnderTest, lasting_port
from tests.support.log_view import LogView
from tests.support.sink_process import SinkProcess

UP_SECONDS = 40.0
UP = "up"


class EmbeddedHeadrace(HeadraceUnderTest):
    """`headrace up` on its default Kafka. It has one process, `up`: stopping or killing a single
    service is not possible.
    """

    def __init__(
        self, directory: Path, *, seed: int = 1, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("127.0.0.1:1", directory, seed=seed, env=env)

    def start(self, *, dispatchers: int = 1) -> "EmbeddedHeadrace":
        """Start it and wait until it is ready."""
        self._sinks = SinkProcess(self.processes, seed=self.seed, directory=self.directory)
        manifest = self.directory / "first.yaml"
        manifest.write_text(
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: first, namespace: default},"
            " data: {}}"
        )
        port = self._management[UP] = lasting_port()
        options = {
            "--port": self.ingress_port,
            "--controller-port": self.api_port,
            "--management-port": port,
            "--viewer-port": lasting_port(),
            "--kubeconfig-out": self.kubeconfig,
            "-f": manifest,
        }
        arguments = [str(part) for option in options.items() for part in option]
        env = {**self._env, "KAFKA_BOOTSTRAP_SERVERS": ""}
        process = self.services[UP] = self.processes.headrace("up", *arguments, name=UP, env=env)
        process.wait_for("Ctrl-C ends.", UP_SECONDS)
        found = re.search(r"(127\.0\.0\.1:\d+), embedded", process.output())
        assert found is not None, process.output()
        self.log = LogView(found.group(1))
        return self

    def run_sources(self, count: int = 1) -> None:
        """They are part of it."""


@contextlib.contextmanager
def embedded_headrace_in(
    directory: Path, *, seed: int = 1, env: Mapping[str, str] | None = None
) -> Iterator[EmbeddedHeadrace]:
    """A started one."""
    system = EmbeddedHeadrace(directory, seed=seed, env=env)
    try:
        yield system.start()
    except BaseException:
        print(system.processes.report())
        raise
    finally:
        system.close()
