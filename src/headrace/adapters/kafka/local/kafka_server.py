"""Apache Kafka on the local machine: one KRaft node, on loopback only, with its data in a given
directory.

For `headrace up --kafka apache` and for tests, which also stop, kill, freeze and restart it on the
same port and data. Blocking calls throughout: run them before the event loop starts or in an
executor.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.adapters.kafka.local.kafka_jars import KAFKA_VERSION, Progress, fetch_jars
from headrace.adapters.private_directory import make_private
from headrace.domain.errors import LogUnavailable, Permanent
from headrace.runtime.suspension import suspend

PORTS = range(10_000, 15_000)
START_SECONDS = 90.0
STOP_SECONDS = 30.0
LOG_TAIL_BYTES = 65_536
LOG_TAIL_LINES = 5

_SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "2",
    # KIP-848 members are fenced after this time. The default of 45 s would stop delivery for that
    # long after a kill -9.
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "message.max.bytes": "2097152",
    "num.partitions": "1",
    "log.retention.check.interval.ms": "60000",
    # A killed broker that restarts must wait this long until its old registration expires (default:
    # 9 s).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # How often the controller writes a record although nothing happens. By default it is twice a
    # second, a third of what an idle broker uses of a core: 12.6 %, and 7.9 % with this value.
    "metadata.max.idle.interval.ms": "5000",
}


class DataInUse(Permanent):
    """Another running process uses a Kafka broker with this data."""


class ApacheKafka:
    """One broker process and its directory. `start` may follow `stop` or `kill`: same port, same
    data.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: str = KAFKA_VERSION,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        progress: Progress = lambda line: None,
    ) -> None:
        """`directory` is created when it does not exist. `settings` are added to
        server.properties. `progress` is called with each step.
        """
        self._directory = directory.absolute()
        self._version = version
        self._heap_mb = heap_mb
        self._extra = dict(settings or {})
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: tuple[int, int] | None = None
        self._log_begun = 0
        """Bytes of the log that earlier runs wrote."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, known from the first `start` on and the same after each restart."""
        if self._ports is None:
            raise RuntimeError("the broker has no port before its first start")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def log(self) -> Path:
        """The log file of the broker. It grows from restart to restart."""
        return self._directory / "kafka.log"

    @property
    def pid(self) -> int | None:
        """The process id while the process runs, including while it is frozen; otherwise None."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    def exit_reason(self) -> str | None:
        """How the process ended, when it was not stopped here. None while it runs and before its
        start.
        """
        code = self._process.poll() if self._process is not None else None
        if self._process is None or code is None:
            return None
        how = (
            f"was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with exit code {code}"
        )
        return f"Apache Kafka (process {self._process.pid}) {how}"

    def log_tail(self) -> list[str]:
        """The last errors in the log of this run, otherwise its last lines; empty without a
        log.
        """
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_begun, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read(LOG_TAIL_BYTES).decode("utf-8", errors="replace").splitlines()
            return ([line for line in lines if "ERROR" in line or "Exception" in line] or lines)[
                -LOG_TAIL_LINES:
            ]
        return []

    def start(self, timeout_seconds: float = START_SECONDS) -> None:
        """Run the broker and return when it answers; about 4 s, longer the first time on a machine.

        Raises `KafkaNotInstallable` when it cannot be installed here and `LogUnavailable` when it
        does not answer in time.
        """
        if self.pid is not None:
            return
        jars = fetch_jars(self._progress, version=self._version)
        make_private(self._directory)
        self._stop_leftover()
        if self._ports is None or not all(_free(port) for port in self._ports):
            self._ports = self._choose_ports()
        properties = self._write_properties()
        self._format(jars, properties)
        self._progress(f"starting Apache Kafka {self._version} on {self.bootstrap_servers}")
        with self.log.open("ab") as log:
            self._log_begun = os.fstat(log.fileno()).st_size
            command = [*self._java(jars), "kafka.Kafka", str(properties)]
            # In a separate session: Ctrl-C on the terminal must stop the services first, and then
            # Kafka.
            self._process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._pid_file.write_text(f"{self._process.pid} {os.getpid()}", encoding="ascii")
        self._wait_until_ready(timeout_seconds)

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Shut down cleanly (SIGTERM), or kill the process when that takes too long. Idempotent."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.cont()
        process.terminate()
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the process (SIGKILL), as in a power failure. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
        self._pid_file.unlink(missing_ok=True)

    def pause(self) -> None:
        """Suspend the process (SIGSTOP), and return when all of its threads have stopped:
        connections stay open, but nothing answers.
        """
        if self._process is not None and self._process.poll() is None:
            suspend(self._process)

    def cont(self) -> None:
        """Undo `pause` (SIGCONT)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    @property
    def _pid_file(self) -> Path:
        return self._directory / "kafka.pid"

    def _stop_leftover(self) -> None:
        """Stop the broker of a run that was killed, because it still holds the lock of the data
        directory.

        Raises `DataInUse` when the process that started it still runs: it would lose its Kafka.
        """
        try:
            pid, owner = (
                int(number) for number in self._pid_file.read_text(encoding="ascii").split()
            )
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            parent = int(
                Path(f"/proc/{pid}/stat")
                .read_text(encoding="ascii", errors="replace")
                .rpartition(")")[2]
                .split()[1]
            )
        except (OSError, ValueError):
            return
        if str(self._directory / "server.properties").encode() not in command:
            return
        # The parent of an orphan is not the process that wrote the file.
        if parent == owner != os.getpid():
            raise DataInUse(
                f"the data in {self._directory} is in use by process {owner}: stop it, or start"
                " in another directory"
            )
        self._progress(f"stopping the Kafka (process {pid}) that an earlier run left behind")
        deadline = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                time.sleep(0.1)
                os.kill(pid, 0)
            os.kill(pid, signal.SIGKILL)

    def _choose_ports(self) -> tuple[int, int]:
        """Reuse the ports of the last run with this data when they are free, so that copied
        addresses stay valid.
        """
        file = self._directory / "ports"
        with contextlib.suppress(OSError, ValueError):
            broker, controller = (int(word) for word in file.read_text(encoding="ascii").split())
            if _free(broker) and _free(controller):
                return broker, controller
        broker = _pick_port()
        ports = broker, next(port for port in iter(_pick_port, 0) if port != broker)
        file.write_text(f"{ports[0]} {ports[1]}", encoding="ascii")
        return ports

    def _write_properties(self) -> Path:
        broker, controller = self._ports or (0, 0)
        listener = f"PLAINTEXT://127.0.0.1:{broker}"
        settings = {
            **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{listener},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": listener,
            "log.dirs": str(self._directory / "data"),
            **self._extra,
        }
        path = self._directory / "server.properties"
        path.write_text(
            "".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8"
        )
        return path

    def _format(self, jars: Path, properties: Path) -> None:
        if (self._directory / "data" / "meta.properties").exists():
            return
        self._progress("formatting its data directory")
        cluster = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")
        command = [
            *self._java(jars),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            str(properties),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        if done.returncode != 0:
            raise LogUnavailable(
                f"Apache Kafka could not format {self._directory / 'data'}:"
                f" {(done.stderr or done.stdout)[-300:]}"
            )

    def _java(self, jars: Path) -> list[str]:
        heap = f"-Xmx{self._heap_mb}m"
        return [
            "java",
            heap,
            "-Xms128m",
            "-XX:+UseG1GC",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp",
            f"{jars}/*",
        ]

    def _wait_until_ready(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.pid is None:
                raise LogUnavailable(
                    "Apache Kafka ended during its start; its last log lines:"
                    f" {' | '.join(self.log_tail())[:600]}; see {self.log}"
                )
            if _accepts(self.bootstrap_servers) and _answers(self.bootstrap_servers):
                return
            time.sleep(0.05)
        raise LogUnavailable(
            f"Apache Kafka did not answer on {self.bootstrap_servers} within"
            f" {timeout_seconds:.0f} s; see {self.log}"
        )


def _pick_port() -> int:
    """Return a free port below the range that systems use for outgoing connections. Such a
    connection could take the port before the broker does, or between two of its runs.
    """
    while not _free(port := PORTS.start + secrets.randbelow(len(PORTS))):
        pass
    return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the broker does: a port with connections in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(address: str) -> bool:
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False
