"""`make kafka`: a Kafka that runs until its process receives SIGTERM."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.wait_until import wait_until

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 30.0

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def test_it_prints_where_it_is_and_stops_on_sigterm() -> None:
    """It prints one line that a shell can evaluate; tests with that variable use this Kafka."""
    environ = {
        name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.keep_kafka"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            name, _, servers = line.removeprefix("export ").strip().partition("=")
            assert "KAFKA_BOOTSTRAP_SERVERS" == name, line
            assert _answers(servers)
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(STOP_SECONDS)
        finally:
            process.kill()
    wait_until(lambda: not _answers(servers), STOP_SECONDS, "Kafka has stopped")


def _answers(servers: str) -> bool:
    try:
        admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        return bool(admin.list_topics(timeout=5).brokers)
    except Exception:  # Any error of the client means that Kafka does not answer.
        return False
