"""The installation that is measured: a Kafka and the services, for as long as a run takes."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.headrace_under_test import HeadraceUnderTest, kafka_for_headrace

from headrace.adapters.kafka.local.kafka_server import ApacheKafka


@contextlib.contextmanager
def installation() -> Iterator[tuple[HeadraceUnderTest, ApacheKafka]]:
    """A started one, with its Kafka. The logs of its processes are printed if the block fails."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as path,
        kafka_for_headrace(Path(path)) as kafka,
    ):
        system = HeadraceUnderTest(
            kafka.bootstrap_servers, Path(path), env={"HEADRACE_LOG_LEVEL": "warning"}
        )
        try:
            yield system.start(), kafka
        except BaseException:
            print(system.processes.report(), file=sys.stderr)
            raise
        finally:
            system.close()
