"""Runs the components of a process: they start in order; after a signal the process reports not
ready, and the components drain and stop in reverse order, within deadlines.

Every Headrace process uses this class: the separate services, and all of them together in `headrace
up`.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import structlog

from headrace.domain.errors import HeadraceError
from headrace.runtime.health import Health
from headrace.runtime.open_files import raise_limit
from headrace.runtime.process import ExitCode, exit_process
from headrace.runtime.settings import BadSettings

logger = structlog.get_logger(__name__)


class Component(Protocol):
    """A component that starts and stops with the process."""

    async def start(self) -> None:
        """Start. The component must be able to work when this returns. Raises a `HeadraceError`
        that says what to do if it cannot start.
        """
        ...

    async def stop(self) -> None:
        """Release all resources. Called once after `start` was called, even if that failed. Must
        not raise for resources that are already released.
        """
        ...


class CloseOnStop:
    """A component that only has to be closed at the end, by a function or a coroutine function."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Close it, and wait if closing is asynchronous."""
        result = self._close()
        if isinstance(result, Awaitable):
            await result


@runtime_checkable
class DrainableComponent(Protocol):
    """A component with work in flight."""

    async def drain(self) -> None:
        """Accept no new work and finish the work in flight."""
        ...


@runtime_checkable
class ReadinessChecked(Protocol):
    """A component that may be unable to do its work; `/readyz` shows the reason under its name."""

    def not_ready(self) -> str | None:
        """Return a reason, as `headrace.runtime.health.Check` does."""
        ...


@runtime_checkable
class ListeningComponent(Protocol):
    """A component that listens; its `url` is logged after everything has started."""

    @property
    def url(self) -> str:
        """The address."""
        ...


class Service:
    """Runs the components of one process. Call `run` once."""

    def __init__(
        self,
        name: str,
        *,
        health: Health | None = None,
        start_seconds: float | None = 60.0,
        shutdown_delay_seconds: float = 0.0,
        drain_seconds: float = 25.0,
        stop_seconds: float = 10.0,
    ) -> None:
        """`start_seconds` and `stop_seconds` apply to each component, `drain_seconds` to all
        together; None means no limit.

        `shutdown_delay_seconds` is the time between reporting not ready and draining: load
        balancers need it to notice.
        """
        self.name = name
        self.health = health or Health()
        self._start_seconds = start_seconds
        self._shutdown_delay_seconds = shutdown_delay_seconds
        self._drain_seconds = drain_seconds
        self._stop_seconds = stop_seconds
        self._parts: list[tuple[str, Component]] = []
        self._ending = asyncio.Event()
        self._exit_code = ExitCode.OK
        self._signals = 0
        self._ended: Callable[[], None] | None = None

    def add(self, name: str, part: Component) -> None:
        """Add a component. It starts after those added before and stops before them. If it is
        `ReadinessChecked`, readiness checks include it from now on.
        """
        self._parts.append((name, part))
        if isinstance(part, ReadinessChecked):
            self.health.add(name, part.not_ready)

    def extend(self, other: "Service") -> None:
        """Add the components of another service, which does not run by itself."""
        self._parts += other._parts

    def end(self, reason: str) -> None:
        """Start the shutdown, as a signal does."""
        if not self._ending.is_set():
            logger.info("stopping", service=self.name, reason=reason)
            self.health.drain(reason)
            self._ending.set()
            if self._ended is not None:
                self._ended()

    def fail(self, part: str, error: BaseException) -> None:
        """Shut down because a component cannot continue. The exit code is a failure, so that a
        supervisor restarts the process.
        """
        logger.error(
            "component_failed",
            service=self.name,
            component=part,
            error=str(error) or type(error).__name__,
        )
        self._exit_code = ExitCode.FAILED
        self.end(f"{part} failed")

    def give_up(self, reason: str, *, seconds: float) -> None:
        """Shut down as `fail` does, when a dependency of the components is permanently lost.
        `seconds` limits draining of all components together, and stopping of each.
        """
        self._drain_seconds, self._stop_seconds = (
            min(self._drain_seconds, seconds),
            min(self._stop_seconds, seconds),
        )
        self._exit_code = ExitCode.FAILED
        self.end(reason)

    async def run(
        self,
        started: Callable[[], Awaitable[None]] | None = None,
        *,
        ended: Callable[[], None] | None = None,
    ) -> ExitCode:
        """Run from start to shutdown and return the exit code. Awaits `started()` after all
        components have started, and calls `ended()` when the shutdown begins.

        SIGTERM and SIGINT start the shutdown; a second signal ends the process immediately.
        """
        self._ended = ended
        self._handle_signals()
        begun: list[tuple[str, Component]] = []
        try:
            if not await self._start(begun):
                return ExitCode.NOT_STARTED
            self.health.started()
            logger.info("started", service=self.name, **self._addresses())
            if started is not None and not self._ending.is_set():
                await self._unless_ending(started())
            await self._ending.wait()
            await asyncio.sleep(self._shutdown_delay_seconds)
            await self._drain(begun)
        finally:
            self.health.drain("stopping")
            await self._stop(begun)
            self._release_signals()
        logger.info("stopped", service=self.name, exit_code=int(self._exit_code))
        return self._exit_code

    def _addresses(self) -> dict[str, str]:
        """Return the address of each component that listens."""
        return {
            name.replace(" ", "_"): part.url
            for name, part in self._parts
            if isinstance(part, ListeningComponent)
        }

    async def _start(self, begun: list[tuple[str, Component]]) -> bool:
        for name, part in self._parts:
            if self._ending.is_set():
                return True
            begun.append((name, part))
            try:
                async with asyncio.timeout(self._start_seconds):
                    await self._unless_ending(part.start())
            except TimeoutError:
                logger.error(
                    "start_failed",
                    service=self.name,
                    component=name,
                    error=f"not started within {self._start_seconds:.0f} s",
                )
                return False
            except HeadraceError as error:
                logger.error("start_failed", service=self.name, component=name, error=str(error))
                return False
        return True

    async def _unless_ending(self, work: Awaitable[None]) -> None:
        """Wait for `work`, or cancel it if the shutdown starts in the meantime."""
        task = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, ending):
                if not each.done():
                    each.cancel()
            await asyncio.gather(task, ending, return_exceptions=True)

    async def _drain(self, begun: list[tuple[str, Component]]) -> None:
        """Drain in reverse order: a component that accepts work was added after the components to
        which it passes the work.
        """
        try:
            async with asyncio.timeout(self._drain_seconds):
                for name, part in reversed(begun):
                    if isinstance(part, DrainableComponent):
                        logger.debug("draining", service=self.name, component=name)
                        await part.drain()
        except TimeoutError:
            logger.warning(
                "drain_deadline_exceeded",
                service=self.name,
                seconds=self._drain_seconds,
                next_step="none: work in flight is repeated after a restart",
            )
            self._exit_code = ExitCode.FAILED
        except HeadraceError as error:
            logger.warning(
                "drain_failed",
                service=self.name,
                error=str(error),
                next_step="none: work in flight is repeated after a restart",
            )
            self._exit_code = ExitCode.FAILED

    async def _stop(self, begun: list[tuple[str, Component]]) -> None:
        for name, part in reversed(begun):
            try:
                async with asyncio.timeout(self._stop_seconds):
                    await part.stop()
            except Exception as error:  # The others must still be stopped.
                logger.warning(
                    "stop_failed",
                    service=self.name,
                    component=name,
                    error=str(error) or type(error).__name__,
                )
                self._exit_code = self._exit_code or ExitCode.FAILED

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _release_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            logger.warning(
                "stopped_by_second_signal",
                service=self.name,
                next_step="none: work in flight is repeated after a restart",
            )
            exit_process(ExitCode.FORCED)
        self.end(number.name)


def log_start_failure(error: HeadraceError) -> None:
    """Log why a process does not start: an invalid setting, or another reason."""
    if isinstance(error, BadSettings):
        logger.error(
            "start_failed",
            setting=", ".join(error.settings),
            error=str(error),
            next_step="correct the setting and start again; docs/settings.md has all of them",
        )
    else:
        logger.error("start_failed", error=str(error))


def run_service(main: Callable[[], Awaitable[ExitCode]]) -> ExitCode:
    """Run `main` on a fast event loop and return its exit code. Every `headrace <service>` command
    calls this.

    Raises the limit of open files first. An invalid setting or an unavailable port, raised while
    the components are created, is logged as one line and returns `NOT_STARTED`.
    """

    async def guarded() -> ExitCode:
        try:
            return await main()
        except HeadraceError as error:
            log_start_failure(error)
            return ExitCode.NOT_STARTED

    raise_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(guarded())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Not available on this platform; asyncio works too, but slower.
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
