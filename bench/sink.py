"""nginx as the subscriber of a benchmark: on a free port, with its own configuration and files."""

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

import urllib3
from tests.support.kafka import free_port

CONFIGURATION = Path(__file__).with_name("nginx.conf")
SLOW_PER_SECOND = 4_000
"""Rate of the slow location: a quarter of what a dispatcher could send, so that no core is busy all
the time.
"""


@dataclass(frozen=True, slots=True)
class NginxSink:
    """A running nginx."""

    port: int
    directory: Path
    pid: int
    _http: urllib3.PoolManager

    @property
    def url(self) -> str:
        """URL for events."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def timed_url(self) -> str:
        """URL for events whose latency is measured."""
        return f"http://127.0.0.1:{self.port}/timed"

    @property
    def slow_url(self) -> str:
        """URL for events that are accepted at `SLOW_PER_SECOND`."""
        return f"http://127.0.0.1:{self.port}/slow"

    def requests(self) -> int:
        """Requests so far, including those for this number."""
        text = self._http.request("GET", f"http://127.0.0.1:{self.port}/status").data.decode()
        found = re.search(r"\n\s*\d+\s+\d+\s+(\d+)", text)
        return int(found.group(1)) if found else 0

    def latencies_ms(self) -> list[float]:
        """From sending to arrival, of all timed events so far, sorted; the newest may be missing
        for a second.
        """
        path = self.directory / "times.log"
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return sorted(
            (float(came) - float(sent)) * 1000
            for came, _, sent in (line.partition(" ") for line in lines)
            if sent and sent != "-"
        )

    def forget(self) -> None:
        """Empty the list of timed events."""
        path = self.directory / "times.log"
        if path.exists():
            with path.open("w"):
                pass


class Deliveries:
    """Counts what a sink received from now on."""

    def __init__(self, sink: NginxSink) -> None:
        self._sink = sink
        self._before = sink.requests()
        self._asked = 0

    def count(self) -> int:
        """Deliveries so far. Reading the counter is a request to nginx too, and is subtracted."""
        self._asked += 1
        return self._sink.requests() - self._before - self._asked


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[NginxSink]:
    """Run one nginx in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = directory / "nginx.conf"
    values = {"port": port, "directory": directory, "slow_per_second": SLOW_PER_SECOND}
    configuration.write_text(
        Template(CONFIGURATION.read_text(encoding="utf-8")).substitute(values), encoding="utf-8"
    )
    process = subprocess.Popen(
        ["nginx", "-p", str(directory), "-c", str(configuration)], stdin=subprocess.DEVNULL
    )
    sink = NginxSink(port, directory, process.pid, urllib3.PoolManager(timeout=5.0, retries=False))
    try:
        deadline = time.monotonic() + 10.0
        while True:
            try:
                sink.requests()
                break
            except urllib3.exceptions.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield sink
    finally:
        process.terminate()
        process.wait(10)
