"""The dispatcher as a process, with settings that were read before:
`python -m headrace_dispatcher FD` (`headrace.runtime.handover`).
"""

import headrace.runtime.lean  # noqa: F401  # first: it keeps others out

# isort: split
import sys

from headrace.runtime import handover
from headrace.runtime.logging import configure
from headrace.runtime.service import leave, live
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings
from headrace_dispatcher.app import run
from headrace_dispatcher.settings import DispatcherSettings


def main() -> int:
    """Take the settings, live by them."""
    given = handover.read(int(sys.argv[1]))
    configure(given.take("logs", LogSettings), service="dispatcher")
    settings, kafka = given.take("own", DispatcherSettings), given.take("kafka", KafkaSettings)
    return live(lambda: run(settings, kafka, given.take("management", ManagementSettings)))


if __name__ == "__main__":
    leave(main())
