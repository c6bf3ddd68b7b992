"""What of the Kafka log needs no Kafka: how it begins, and ends, with settings that the client
refuses, and what it measures when no broker answers.
"""

from pathlib import Path

import pytest

from headrace.adapters.kafka.credentials import ClientCredentials
from headrace.adapters.kafka.options import KafkaOptions, LogOptions
from headrace.adapters.kafka.producer import KafkaLog
from headrace.adapters.kafka.tail import KafkaTail
from headrace.domain.errors import HeadraceError, WriteRefused
from headrace.domain.record import Record
from tests.support.wait_until import wait_until_async


@pytest.fixture
def refused(tmp_path: Path) -> KafkaOptions:
    """Options with a file of certificates that holds none."""
    authority = tmp_path / "ca.pem"
    authority.write_text("no certificate")
    return KafkaOptions(
        bootstrap_servers="127.0.0.1:1",
        credentials=ClientCredentials(
            {"security.protocol": "SSL", "ssl.ca.location": str(authority)}
        ),
    )


async def test_a_log_that_could_not_start_can_be_stopped(refused: KafkaOptions) -> None:
    """The reason is one line that names the client's setting, and nothing else goes wrong
    after it.
    """
    log = KafkaLog(refused)
    with pytest.raises(WriteRefused, match=r"^the client for Kafka: .*ssl\.ca\.location"):
        await log.start()
    await log.stop()
    await log.stop()


def test_a_tail_says_what_the_client_refuses(refused: KafkaOptions) -> None:
    """`headrace dead-letters` shows the line, not a traceback."""
    with pytest.raises(WriteRefused, match=r"^the client for Kafka: .*ssl\.ca\.location"):
        KafkaTail(refused, seconds=1.0)


async def test_records_that_are_not_stored_are_errors_and_have_no_duration() -> None:
    """Each is counted with the name of the error, and the next one can be timed."""
    options = KafkaOptions(bootstrap_servers="127.0.0.1:1")
    durations: list[float] = []
    options.measurements.observe_produce = durations.append
    log = KafkaLog(options, log=LogOptions(delivery_seconds=0.1))
    await log.start()
    reports: list[HeadraceError | None] = []
    log.append("topic", Record(None, b"{}"), reports.append)
    await wait_until_async(lambda: len(reports) == 1, what="the first report")
    log.append("topic", Record(None, b"{}"), reports.append)
    await wait_until_async(lambda: len(reports) == 2, what="the second report")
    await log.stop()
    assert None not in reports
    assert not durations
    assert 2 <= options.measurements.errors()["producer", "_MSG_TIMED_OUT"]
