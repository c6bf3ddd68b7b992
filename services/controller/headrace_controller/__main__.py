"""The controller as a process, with settings that were read before:
`python -m headrace_controller FD` (`headrace.runtime.exec_settings`).
"""

import headrace.runtime.without_rich  # noqa: F401  # first: it keeps others out

# isort: split
import sys

from headrace.runtime import exec_settings
from headrace.runtime.logging import configure
from headrace.runtime.process import exit_process
from headrace.runtime.service import run_service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace_controller.app import run
from headrace_controller.settings import ControllerSettings, KubernetesSettings


def main() -> int:
    """Read the settings and run the service."""
    given = exec_settings.read(int(sys.argv[1]))
    logs = given.take("logs", LogSettings)
    configure(logs, service="controller")
    settings, kafka = given.take("own", ControllerSettings), given.take("kafka", KafkaSettings)
    cluster = given.take("cluster", KubernetesSettings) if "cluster" in given else None
    management, nats = (
        given.take("management", ManagementSettings),
        given.take("nats", NatsSettings),
    )
    return run_service(lambda: run(settings, kafka, management, logs, cluster, nats=nats))


if __name__ == "__main__":
    exit_process(main())
