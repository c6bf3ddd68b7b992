"""The sources service as a process, with settings that were read before:
`python -m headrace_sources FD` (`headrace.runtime.exec_settings`).
"""

import headrace.runtime.without_rich  # noqa: F401  # first: it keeps others out

# isort: split
import sys

from headrace.runtime import exec_settings
from headrace.runtime.logging import configure
from headrace.runtime.process import exit_process
from headrace.runtime.service import run_service
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings, NatsSettings
from headrace_sources.app import run
from headrace_sources.settings import SourcesSettings


def main() -> int:
    """Take the settings, live by them."""
    given = exec_settings.read(int(sys.argv[1]))
    logs = given.take("logs", LogSettings)
    configure(logs, service="sources")
    settings, kafka = given.take("own", SourcesSettings), given.take("kafka", KafkaSettings)
    management, nats = (
        given.take("management", ManagementSettings),
        given.take("nats", NatsSettings),
    )
    return run_service(lambda: run(settings, kafka, nats, management, logs))


if __name__ == "__main__":
    exit_process(main())
