"""The controller's API, as a process, while its Kafka is frozen or stopped, and right after its
first start.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from headrace.adapters.kafka.local.kafka_server import ApacheKafka
from tests.support.kafka import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

MAPS = "/api/v1/namespaces/default/configmaps"
OLD = "objects and their status may be old: Kafka does not answer; its last answer was at 20"
"""How the warning of a read begins while Kafka is unavailable."""
ANSWER_SECONDS = 10.0
"""The time within which a write is answered and readiness is correct, regardless of the state of
Kafka.
"""

pytestmark = pytest.mark.kafka


class Served:
    """A controller process and its two ports."""

    def __init__(
        self, processes: Processes, kafka: ApacheKafka, directory: Path, *, name: str = "one"
    ) -> None:
        self.port, self.management = free_port(), free_port()
        self.process: ServiceProcess = processes.headrace(
            "controller",
            *(
                "--port",
                str(self.port),
                "--bootstrap-servers",
                kafka.bootstrap_servers,
                "--management-port",
                str(self.management),
            ),
            *("--kubeconfig-out", str(directory / name)),
            env={"HEADRACE_CONTROLLER_INSTANCE": name},
        )
        self._http = urllib3.PoolManager(timeout=40, retries=False, maxsize=10)

    def ask(
        self, method: str, path: str, body: object = None, *, port: int = 0
    ) -> tuple[int, Any, float, urllib3.BaseHTTPResponse]:
        """Return status, document or text, duration in seconds, and the whole response."""
        started = time.monotonic()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{port or self.port}{path}"
        answer = self._http.request(
            method, url, body=None if body is None else json.dumps(body).encode(), headers=headers
        )
        took = time.monotonic() - started
        text = answer.data.decode()
        return answer.status, json.loads(text) if text.startswith("{") else text, took, answer

    def make(self, name: str) -> tuple[int, Any, float, urllib3.BaseHTTPResponse]:
        """Create a ConfigMap."""
        return self.ask("POST", MAPS, {"metadata": {"name": name}})

    def ready(self) -> tuple[int, str]:
        """The status of the API's `/readyz`, 0 while nothing listens."""
        try:
            code, text, _, _ = self.ask("GET", "/readyz?verbose")
        except urllib3.exceptions.HTTPError:
            return 0, ""
        return code, str(text)


@pytest.fixture
def served(processes: Processes, private_kafka: ApacheKafka, tmp_path: Path) -> Iterator[Served]:
    """A controller at its first start, from the moment it listens."""
    found = Served(processes, private_kafka, tmp_path)
    wait_until(lambda: found.ready()[0] != 0, 60, "the API to listen", every=0.01)
    yield found
    if private_kafka.pid is None:
        return
    private_kafka.cont()


def test_the_first_write_is_answered(served: Served) -> None:
    """The request waits until this controller is the writer and the namespaces exist, because a
    script sends it only once.
    """
    code, found, took, _ = served.make("first")
    assert 201 == code, found
    assert took < ANSWER_SECONDS


@pytest.mark.parametrize("how", ["frozen", "dead"])
def test_writes_are_answered_while_kafka_is_unavailable(
    served: Served, private_kafka: ApacheKafka, how: str
) -> None:
    """The answer comes within 10 s, with a Status that names Kafka and what is known. Readiness
    changes as fast, and afterwards the state agrees with the answers.
    """
    assert 201 == served.make("before")[0]
    started = time.monotonic()
    if how == "frozen":
        private_kafka.pause()
    else:
        private_kafka.kill()
    answers: dict[str, tuple[int, Any, float, urllib3.BaseHTTPResponse]] = {}

    def make(name: str) -> None:
        answers[name] = served.make(name)

    threads = [threading.Thread(target=make, args=(f"during-{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
        threads[0].join(0.5)
    wait_until(lambda: served.ready()[0] == 503, ANSWER_SECONDS, "readiness to fail")
    assert time.monotonic() - started < ANSWER_SECONDS
    assert "Kafka does not answer" in served.ready()[1]
    for path in (f"{MAPS}/before", MAPS):
        code, _, _, read = served.ask("GET", path)
        assert 200 == code
        assert OLD in read.headers.get("warning", "")
    for thread in threads:
        thread.join(40)
    later = served.make("later")
    for name, (code, status, took, answer) in [*answers.items(), ("later", later)]:
        assert code in (503, 504), (name, status)
        assert took < ANSWER_SECONDS, name
        assert "Kafka" in status["message"]
        assert ("retry-after" in answer.headers) == (code == 503), (
            "clients retry a write automatically when the response has a Retry-After"
        )
        known = "nothing was stored" if code == 503 else "read before you write again"
        assert known in status["message"]
    if how == "frozen":
        private_kafka.cont()
    else:
        private_kafka.start()
    wait_until(
        lambda: served.ready()[0] == 200 and served.make("after")[0] in (201, 409),
        60,
        "the controller to write again",
        every=0.5,
    )
    assert "warning" not in served.ask("GET", MAPS)[3].headers
    for name, (code, _, _, _) in answers.items():
        if code == 503:
            assert 404 == served.ask("GET", f"{MAPS}/{name}")[0], (
                f"{name} was answered as not stored"
            )


def test_a_standby_answers_at_once_and_names_the_writer(
    served: Served, processes: Processes, private_kafka: ApacheKafka, tmp_path: Path
) -> None:
    """The request does not wait until the controller takes over."""
    assert 201 == served.make("first")[0]
    standby = Served(processes, private_kafka, tmp_path, name="two")
    wait_until(lambda: standby.ready()[0] == 200, 60, "the standby to answer")
    code, status, took, _ = standby.make("second")
    assert (503, True) == (code, "controller one is the leader" in status["message"])
    assert took < 2
