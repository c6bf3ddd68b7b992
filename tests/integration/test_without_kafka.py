"""Services without Kafka, as processes: they wait, report the reason, and stop on request."""

import urllib.error
import urllib.request

import pytest

from tests.support.kafka import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.wait_until import wait_until

END_SECONDS = 8.0
"""Less than a request to Kafka may take, which is 10 s or more everywhere."""


def readiness(port: int) -> tuple[int, str]:
    """Return status and page of `/readyz`; status 0 while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.parametrize("service", ["controller", "dispatcher", "ingress"])
def test_a_service_waits_for_kafka_reports_it_and_stops_on_request(
    processes: Processes, service: str
) -> None:
    """Within seconds it is not ready, with a reason that names Kafka."""
    process, management, kafka = _alone(processes, service)
    wait_until(
        lambda: any(each in readiness(management)[1] for each in (kafka, "the cluster")),
        60,
        "a reason that names Kafka",
    )
    assert 503 == readiness(management)[0]
    assert 0 == process.stop()


def test_a_request_to_kafka_does_not_delay_the_stop(processes: Processes) -> None:
    """The controller has just requested the cluster's description; the answer would take up to ten
    more seconds.
    """
    process, _, _ = _alone(processes, "controller")
    process.wait_for("Connection refused", 60)
    assert 0 == process.stop(END_SECONDS)


def _alone(processes: Processes, service: str) -> tuple[ServiceProcess, int, str]:
    """Start a service; return the process, its management port, and its Kafka address."""
    management, unused = free_port(), f"127.0.0.1:{free_port()}"
    own = [] if service == "dispatcher" else ["--port", "0"]
    return (
        processes.headrace(
            service, *own, "--bootstrap-servers", unused, "--management-port", str(management)
        ),
        management,
        unused,
    )
