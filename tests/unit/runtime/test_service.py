"""The order in which the components of a process start, drain and stop."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import structlog.testing

from headrace.domain.errors import LogUnavailable
from headrace.runtime.process import ExitCode
from headrace.runtime.service import Service


class Recorder:
    """A component that records the calls to it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self.calls = calls

    async def start(self) -> None:
        """Record the call."""
        self.calls.append(f"start {self.name}")

    async def drain(self) -> None:
        """Record the call."""
        self.calls.append(f"drain {self.name}")

    async def stop(self) -> None:
        """Record the call."""
        self.calls.append(f"stop {self.name}")


class Failing(Recorder):
    """A component that cannot start."""

    async def start(self) -> None:
        """Fail for a reason that an operator can fix."""
        await super().start()
        raise LogUnavailable("Kafka does not answer on x:1")


class Endless(Recorder):
    """A component that never finishes draining or starting."""

    async def drain(self) -> None:
        """Hang."""
        await super().drain()
        await asyncio.sleep(60)


async def test_parts_start_in_order_and_end_in_reverse() -> None:
    """The component that accepts work is added last and therefore stops first."""
    calls: list[str] = []
    service = Service("test")
    service.add("log", Recorder("log", calls))
    service.add("door", Recorder("door", calls))

    async def started() -> None:
        assert service.health.readiness().passed
        service.end("enough")
        assert not service.health.readiness().passed

    assert ExitCode.OK == await service.run(started)
    assert ["start log", "start door", "drain door", "drain log", "stop door", "stop log"] == calls


async def test_sigterm_ends_it_cleanly() -> None:
    """The signal makes the service not ready and is said to be heard, then the components drain and
    stop.
    """
    calls: list[str] = []
    service = Service("test")
    service.add("door", Recorder("door", calls))

    async def started() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert ExitCode.OK == await service.run(started, ended=lambda: calls.append("ended"))
    assert ["start door", "ended", "drain door", "stop door"] == calls
    assert service.health.draining


async def test_a_part_that_cannot_start_ends_those_before_it() -> None:
    """Nothing keeps running, later components are not started, and the exit code says that the
    service never ran.
    """
    calls: list[str] = []
    service = Service("test")
    for part in (Recorder("log", calls), Failing("kafka", calls), Recorder("door", calls)):
        service.add(part.name, part)
    assert ExitCode.NOT_STARTED == await service.run()
    assert ["start log", "start kafka", "stop kafka", "stop log"] == calls


class Late(Recorder):
    """A component that starts when the test allows it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__(name, calls)
        self.let = asyncio.Event()

    async def start(self) -> None:
        """Wait."""
        await super().start()
        await self.let.wait()


@pytest.mark.parametrize(
    ("start_seconds", "code"), [(0.05, ExitCode.NOT_STARTED), (None, ExitCode.OK)]
)
async def test_a_start_has_a_deadline_unless_there_is_none(
    start_seconds: float | None, code: ExitCode
) -> None:
    """A service that waits for something that may be unavailable for hours has no deadline. It can
    be stopped meanwhile.
    """
    part = Late("kafka", [])
    service = Service("test", start_seconds=start_seconds)
    service.add("kafka", part)
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, part.let.set)
    loop.call_later(0.3, service.end, "enough")
    assert code == await service.run()


async def test_draining_has_a_deadline() -> None:
    """Work that does not end is abandoned, the next process does it again, and the exit code
    reports this.
    """
    calls: list[str] = []
    service = Service("test", drain_seconds=0.05)
    service.add("slow", Endless("slow", calls))

    async def started() -> None:
        service.end("enough")

    assert ExitCode.FAILED == await service.run(started)
    assert "stop slow" in calls


async def test_a_signal_while_starting_gives_the_start_up() -> None:
    """An unreachable Kafka must not delay Ctrl-C for a minute."""
    calls: list[str] = []

    class Slow(Recorder):
        async def start(self) -> None:
            await super().start()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)

    service = Service("test")
    service.add("slow", Slow("slow", calls))
    service.add("door", Recorder("door", calls))
    async with asyncio.timeout(5):
        await service.run()
    assert ["start slow", "drain slow", "stop slow"] == calls


async def test_a_failed_part_ends_the_process_with_a_failure() -> None:
    """A supervisor restarts the process only if the exit code says that it failed."""
    service = Service("test")

    async def started() -> None:
        service.fail("feed", LogUnavailable("gone"))

    assert ExitCode.FAILED == await service.run(started)


STUBBORN = """
import asyncio, sys
from headrace.runtime.logging import configure
from headrace.runtime.service import Service, run_service
from headrace.runtime.settings import LogSettings
configure(LogSettings())
class Stubborn:
    async def start(self): pass
    async def stop(self): pass
    async def drain(self):
        print("draining", flush=True)
        await asyncio.sleep(60)
async def main():
    service = Service("test")
    service.add("stubborn", Stubborn())
    async def started(): print("started", flush=True)
    return await service.run(started)
sys.exit(run_service(main))
"""


@pytest.mark.timeout(30)
def test_a_second_signal_ends_it_on_the_spot() -> None:
    """The user does not have to wait for the drain."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert "started\n" == process.stdout.readline()
            process.terminate()
            assert "draining\n" == process.stdout.readline()
            process.terminate()
            assert ExitCode.FORCED == process.wait(10)
        finally:
            process.kill()


class Door(Recorder):
    """A component that listens on a port."""

    url = "http://127.0.0.1:8080"


async def test_what_started_says_where() -> None:
    """The log line of the start contains the address of every component that listens."""
    service = Service("test")
    service.add("log", Recorder("log", []))
    service.add("front door", Door("door", []))

    async def started() -> None:
        service.end("enough")

    with structlog.testing.capture_logs() as lines:
        await service.run(started)
    found = next(line for line in lines if line["event"] == "started")
    assert "http://127.0.0.1:8080" == found["front_door"]
    assert "log" not in found
