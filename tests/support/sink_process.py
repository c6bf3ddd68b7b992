"""The test's side of the sinks' process: start it, script it, query its arrivals."""

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.support.ledger import Arrival, read_arrivals
from tests.support.processes import Processes
from tests.support.sink_scripts import Script
from tests.support.wait_until import wait_until


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request that a recording sink received."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: float


class SinkProcess:
    """Sinks in a process of their own."""

    def __init__(
        self, processes: Processes, *, seed: int, directory: Path, name: str = "sinks"
    ) -> None:
        self.log = directory / f"{name}.jsonl"
        self.process = processes.start(
            name,
            [
                sys.executable,
                "-m",
                "tests.support.sinks",
                "--seed",
                str(seed),
                "--log",
                str(self.log),
            ],
        )
        self.process.wait_for("port ")
        wait_until(lambda: self.process.output().endswith("\n"), what="the sinks print their port")
        self.port = int(self.process.output().partition("port ")[2].split()[0])
        self._http = urllib3.PoolManager(timeout=urllib3.Timeout(10.0), retries=False, maxsize=8)

    def close(self) -> None:
        """End it and close the connections to it."""
        self._http.clear()
        self.process.stop()

    def url(self, sink: str) -> str:
        """The URL of this sink."""
        return f"http://127.0.0.1:{self.port}/{sink}"

    def script(self, sink: str, script: Script) -> None:
        """Set a sink's behaviour, from the next request on."""
        self._ask("PUT", f".script/{sink}", script.as_json().encode())

    def forget(self) -> None:
        """Forget scripts, requests and counts: no sink has been used."""
        self._ask("POST", ".forget")

    def counts(self, sink: str) -> Mapping[str, int]:
        """`requests`, `accepted` (2xx answers), `events` (distinct ones accepted) and `damaged` of
        a sink; an absent one is 0.
        """
        counts: dict[str, dict[str, int]] = json.loads(self._ask("GET", ".counts"))
        return counts.get(sink, {})

    def events(self, sink: str) -> int:
        """How many distinct events a sink has accepted."""
        return self.counts(sink).get("events", 0)

    def requests(self, sink: str) -> list[Request]:
        """The complete requests of a recording sink, oldest first."""
        values = json.loads(self._ask("GET", f".requests/{sink}"))
        return [
            Request(each["path"], dict(each["headers"]), base64.b64decode(each["body"]), each["at"])
            for each in values
        ]

    def arrivals(self) -> list[Arrival]:
        """All arrivals so far."""
        if self.process.running:
            self._ask("POST", ".flush")
        return read_arrivals(self.log.read_text(encoding="utf-8"))

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return self._http.request(method, f"http://127.0.0.1:{self.port}/{path}", body=body).data
