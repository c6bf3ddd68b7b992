"""A Kafka that stays up between test runs: `python -m tests.support.keep_kafka` (`make kafka`).

Prints the variable for other terminals on standard output, and stops Kafka on Ctrl-C or SIGTERM.
"""

import contextlib
import os
import signal
import sys

from tests.support.kafka import UNPROVEN, real_kafka_is_possible, running_kafka


def main() -> int:
    """Start Kafka, print its address, wait for a signal; 1 where no real Kafka is possible."""
    os.environ.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    if not real_kafka_is_possible():
        print(UNPROVEN, file=sys.stderr)
        return 1
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with contextlib.ExitStack() as stack:
        with contextlib.redirect_stdout(sys.stderr):
            kafka = stack.enter_context(running_kafka())
        print(f"export KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap_servers}", flush=True)
        print("Tests in that environment use it. Ctrl-C stops it.", file=sys.stderr, flush=True)
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    sys.exit(main())
