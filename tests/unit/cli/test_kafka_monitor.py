"""What `headrace up` does when the Kafka that it started has exited."""

import asyncio
from pathlib import Path

from headrace.runtime.process import ExitCode
from headrace.runtime.service import Service
from headrace_cli.kafka_monitor import KafkaMonitor, exit_report


class Broker:
    """A broker that exits on request."""

    log = Path("/data/kafka.log")

    def __init__(self, words: list[str]) -> None:
        self.how: str | None = None
        self._words = words

    def exit_reason(self) -> str | None:
        """Return the reason that the test sets."""
        return self.how

    def log_tail(self) -> list[str]:
        """Return the lines that the test sets."""
        return self._words


class Stubborn:
    """A component that waits for a Kafka that does not return."""

    async def start(self) -> None:
        """Do nothing."""

    async def drain(self) -> None:
        """Hang."""
        await asyncio.sleep(60)

    async def stop(self) -> None:
        """Hang."""
        await asyncio.sleep(60)


async def test_the_end_of_kafka_ends_everything_as_a_failure() -> None:
    """It is reported immediately, and components that wait for Kafka do not delay the exit for
    long.
    """
    broker, said = Broker([]), list[str]()
    service = Service("up", drain_seconds=30.0, stop_seconds=30.0)
    service.add("stubborn", Stubborn())
    service.add("Kafka", KafkaMonitor(broker, service, say=said.extend))

    async def started() -> None:
        broker.how = "Apache Kafka (process 7) was ended by SIGKILL"

    async with asyncio.timeout(10):
        assert ExitCode.FAILED == await service.run(started)
    assert ["Apache Kafka (process 7) was ended by SIGKILL; stopping everything else."] == said


def test_the_exit_report_names_the_log_and_its_last_lines() -> None:
    """There is no report for a broker that is running."""
    broker = Broker(["ERROR disk full", "x" * 5000])
    assert [] == exit_report(broker)
    broker.how = "Apache Kafka (process 7) ended with exit code 1"
    first, second, *words = exit_report(broker)
    assert first.startswith(broker.how)
    assert "/data/kafka.log" in second
    assert "ERROR disk full" == words[0].strip()
    assert max(map(len, words)) < 250
