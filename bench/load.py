"""Drives and measures a benchmark: wrk as the sender, process times as the cost, and a backlog
written directly to Kafka.
"""

import json
import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka import Producer

from headrace.adapters.kafka.options import LogOptions

SCRIPT = Path(__file__).with_name("wrk") / "events.lua"
EVENT_BYTES = 1024
KEYS = 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of wrk."""

    requests: int
    seconds: float
    refused: int
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def wrk(
    port: int,
    path: str,
    *,
    seconds: int,
    connections: int = 64,
    per_second: float = 0.0,
    keyed: bool = True,
) -> Sent:
    """Send events for `seconds`; with `per_second` 0 as fast as answers arrive. Raises RuntimeError
    if wrk prints no result.
    """
    pause = connections / per_second * 1000 if per_second else 0
    arguments = [path, str(pause), str(KEYS if keyed else 0)]
    return run_wrk(port, SCRIPT, arguments, seconds=seconds, connections=connections)


def run_wrk(
    port: int, script: Path, arguments: Sequence[str], *, seconds: int, connections: int = 64
) -> Sent:
    """Run wrk with a script that prints its result as `JSON {...}`. Raises RuntimeError if it
    prints none.
    """
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}",
    ]
    done = subprocess.run(
        [*command, "--", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if not lines:
        raise RuntimeError(
            f"wrk gave no figures (exit {done.returncode}):\n{done.stdout}{done.stderr}"
        )
    values: Mapping[str, float] = json.loads(lines[0].removeprefix("JSON "))
    return Sent(
        int(values["requests"]),
        values["seconds"],
        int(values["refused"]),
        int(values["errors"]),
        values["p50_ms"],
        values["p99_ms"],
    )


class Meter:
    """User and system time of one process since its start, with threads and without children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._seconds()
        self._since = time.monotonic()

    def _seconds(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system

    def cpu_seconds(self) -> float:
        """CPU used so far."""
        return self._seconds() - self._before

    def micros_per(self, events: int) -> float:
        """CPU microseconds per event."""
        return self.cpu_seconds() / events * 1e6 if events else math.nan

    def share(self) -> float:
        """CPUs used on average: 1.0 is one core."""
        return self.cpu_seconds() / max(1e-9, time.monotonic() - self._since)

    def rss_mib(self) -> float:
        """Resident memory now."""
        return float(self._process.memory_info().rss) / (1 << 20)


def write_backlog(
    bootstrap_servers: str, topic: str, events: int, *, size: int = EVENT_BYTES
) -> None:
    """Append events as the ingress would have, for a dispatcher that is not running yet. Raises
    RuntimeError if not all were stored.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "linger.ms": 20,
            "batch.size": LogOptions().batch_bytes_max,
            "queue.buffering.max.kbytes": 1 << 20,
            "log_level": 0,
        }
    )
    data = b"x" * size
    fixed = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/bench"),
        ("ce_type", b"bench.event"),
        ("content-type", b"application/octet-stream"),
    ]
    for number in range(events):
        key = b"k%d" % (number % KEYS)
        headers: list[tuple[str, str | bytes | None]] = [
            *fixed,
            ("ce_id", b"%d" % number),
            ("ce_partitionkey", key),
        ]
        while True:
            try:
                producer.produce(topic, data, key, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(60.0)
    if left:
        raise RuntimeError(f"{left} of {events} events were not stored in {topic} within 60 s")
