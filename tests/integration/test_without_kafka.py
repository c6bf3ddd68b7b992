"""Services, as processes, where no Kafka answers: they wait, say why, and go when they are
told to.
"""

import urllib.error
import urllib.request

import pytest

from tests.support.kafka import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

END_SECONDS = 8.0
"""Less than a question to Kafka may take, which is 10 s or more everywhere."""


def readiness(port: int) -> tuple[int, str]:
    """Status and page of `/readyz`; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.parametrize("service", ["controller", "dispatcher", "ingress"])
def test_a_service_waits_for_kafka_says_so_and_ends_when_told(
    processes: Processes, service: str
) -> None:
    """Not ready for a reason that names Kafka, within seconds."""
    process, management, kafka = _alone(processes, service)
    wait_until(
        lambda: any(each in readiness(management)[1] for each in (kafka, "the cluster")),
        60,
        "a reason that names Kafka",
    )
    assert 503 == readiness(management)[0]
    assert 0 == process.stop()


def test_a_question_to_kafka_does_not_hold_up_the_end(processes: Processes) -> None:
    """The controller has just asked what cluster it is; the answer would be waited for another ten
    seconds.
    """
    process, _, _ = _alone(processes, "controller")
    process.wait_for("Connection refused", 60)
    assert 0 == process.stop(END_SECONDS)


def _alone(processes: Processes, service: str) -> tuple[ServiceProcess, int, str]:
    """The process, its management port, and the address at which it looks for Kafka."""
    management, nobody = free_port(), f"127.0.0.1:{free_port()}"
    own = [] if service == "dispatcher" else ["--port", "0"]
    return (
        processes.headrace(
            service, *own, "--bootstrap-servers", nobody, "--management-port", str(management)
        ),
        management,
        nobody,
    )
