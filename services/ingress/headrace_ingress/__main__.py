"""Runs the ingress: `python -m headrace_ingress FD`. FD is the file descriptor with the settings,
which another process has validated (`headrace.runtime.exec_settings`).

`python -m headrace_ingress FD STATE_FD` runs a worker process, started by
`headrace_ingress.worker_supervisor`.
"""

import headrace.runtime.without_rich  # noqa: F401  # first, so that rich is not imported

# isort: split
import sys

from headrace.runtime import exec_settings
from headrace.runtime.logging import configure
from headrace.runtime.process import exit_process
from headrace.runtime.service import run_service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace_ingress.app import run, run_worker
from headrace_ingress.settings import IngressSettings
from headrace_ingress.worker_process import ParentLink


def main() -> int:
    """Read the settings, run the ingress or a worker, and return the exit code."""
    settings_fd = int(sys.argv[1])
    given = exec_settings.read(settings_fd)
    logs = given.take("logs", LogSettings)
    settings, kafka = given.take("own", IngressSettings), given.take("kafka", KafkaSettings)
    nats = given.take("nats", NatsSettings)
    configure(logs, service="ingress")
    if len(sys.argv) > 2:
        link = ParentLink(settings_fd=settings_fd, state_fd=int(sys.argv[2]))
        return run_service(lambda: run_worker(settings, kafka, nats, link))
    return run_service(
        lambda: run(settings, kafka, nats, given.take("management", ManagementSettings), logs)
    )


if __name__ == "__main__":
    exit_process(main())
