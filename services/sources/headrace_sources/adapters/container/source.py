"""The adapter `container`: runs the containers of a ContainerSource beside this process, as Docker
containers or as processes of this machine.

They send events by themselves, to the URL in their variable K_SINK: this adapter emits none. In a
cluster, the controller creates a Deployment instead.

A container that ends is started again, after 1 s at first, then after 10 s, and after twice as long
each time, up to 5 minutes, as Kubernetes does it.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import ClassVar, Final

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.sink_variables import SinkVariables
from headrace.runtime.guarded_program import GuardedProgram
from headrace_sources.adapters.container import orphans
from headrace_sources.adapters.container.config import Container, ContainerConfig
from headrace_sources.adapters.container.expansion import expanded_environment
from headrace_sources.adapters.container.programs import (
    ADAPTER_READY,
    Invocation,
    Variables,
    docker,
    process,
    sink_for_docker,
)
from headrace_sources.settings import ContainersMode
from headrace_sources.source import Emit, SourceConfig, SourceContext, SourceFault

logger = structlog.get_logger(__name__)

SINK_BINDING_READY: Final = "SinkBindingReady"
BACKOFF: Final = Backoff((1.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0))
HEALTHY_SECONDS: Final = 600.0
"""A container that ran for so long before it ended is started again as after its first end."""
SHOWN_SECONDS: Final = 3.0
"""How long a container that has ended before must run until it counts as running."""
STOP_SECONDS: Final = 2.5
"""Time between SIGTERM and SIGKILL; the service allows 5 s in all."""
SHOWN_LINES: Final = 5
_LINE_SHOWN_MAX: Final = 100
_SECRET_CHARACTERS_MIN: Final = 4
"""Shorter values are not looked for in the output."""
_DOCKER_FAILED: Final = 125
"""Exit code of `docker run` when the container was not started."""


class ContainerSource:
    """Implements `headrace_sources.source.Source`."""

    Config: ClassVar[type[SourceConfig]] = ContainerConfig

    def __init__(self, config: ContainerConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._faults: dict[str, tuple[bool | None, str, str]] = {}
        """By container that does not run: what the condition shows of it."""
        self._secrets: tuple[str, ...] = ()

    async def run(self, _emit: Emit) -> None:
        """Run the containers until cancelled."""
        in_docker = await self._runs_in_docker()
        sink = sink_for_docker(self._config.sink) if in_docker else self._config.sink
        bound = self._config.sink_variables(sink)
        self._context.report(SINK_BINDING_READY, True)
        if in_docker:
            removed = await orphans.remove_orphans(self._context.uid)
            if removed:
                logger.warning("orphaned_containers_removed", count=removed, **self._names)
        invoke = self._docker if in_docker else process
        waiting = [
            (each, await self._invocation(each, bound, invoke))
            for each in (*self._config.init_containers, *self._config.containers)
        ]
        first = len(self._config.init_containers)
        for container, invocation in waiting[:first]:
            await self._run_again(container, invocation, until_success=True)
        async with asyncio.TaskGroup() as group:
            for container, invocation in waiting[first:]:
                group.create_task(self._run_again(container, invocation))

    @property
    def _names(self) -> dict[str, str]:
        return {"namespace": self._context.namespace, "name": self._context.name}

    async def _runs_in_docker(self) -> bool:
        """Whether Docker runs the containers. Raises SourceFault if nothing may run here."""
        match self._context.settings.containers:
            case ContainersMode.DOCKER:
                return True
            case ContainersMode.PROCESS:
                return False
            case ContainersMode.PROCESS_AND_DOCKER:
                return await orphans.docker_runs()
            case ContainersMode.OFF | None:
                raise SourceFault(
                    "ContainersDisabled",
                    "this sources service runs no containers, because they can do what its user can"
                    " do on its machine; an operator allows it with"
                    " HEADRACE_SOURCES_CONTAINERS=docker",
                    condition=ADAPTER_READY,
                )

    async def _invocation(
        self,
        container: Container,
        bound: SinkVariables,
        invoke: Callable[[Container, Variables, tuple[str, ...]], Invocation],
    ) -> Invocation:
        entries: list[tuple[str, str, bool]] = []
        for each in container.env:
            if each.secret_key_ref is None:
                entries.append((each.name, each.value, True))
                continue
            value = (await self._context.secret(each.secret_key_ref)).decode("utf-8", "replace")
            self._secrets += (value,)
            entries.append((each.name, value, False))
        added = bound.environment()
        values = expanded_environment(entries, added)
        secret = {
            name
            for name, value in values.items()
            if name not in added and any(each and each in value for each in self._secrets)
        }
        variables = Variables(values=values, secret=frozenset(secret))
        return invoke(container, variables, tuple(bound.arguments(container.args)))

    def _docker(
        self, container: Container, variables: Variables, args: tuple[str, ...]
    ) -> Invocation:
        uid = self._context.uid
        name = f"headrace-{uid[:36]}-{container.name}"
        return docker(container, variables, args, name=name, labels=orphans.labels_of(uid))

    async def _run_again(
        self, container: Container, invocation: Invocation, *, until_success: bool = False
    ) -> None:
        """Run a container, and again when it has ended; an init container until it succeeds."""
        failures = 0
        self._report(container.name, (None, "Starting", f"container {container.name} is started"))
        while True:
            started = self._context.clock.monotonic()
            code, lines = await self._run_once(container, invocation, first=not failures)
            if until_success and code == 0:
                self._report(container.name, None)
                return
            if self._context.clock.monotonic() - started > HEALTHY_SECONDS:
                failures = 0
            failures += 1
            wait = BACKOFF.seconds(failures)
            fault = _fault(container.name, code, lines, wait)
            self._report(container.name, (False, *fault))
            logger.warning("container_ended", reason=fault[0], error=fault[1], **self._names)
            await asyncio.sleep(wait)

    async def _run_once(
        self, container: Container, invocation: Invocation, *, first: bool
    ) -> tuple[int, list[str]]:
        """Run a container to its end: exit code, and the last lines of its output."""
        try:
            program = await GuardedProgram.start(
                invocation.command,
                stop_seconds=STOP_SECONDS,
                environment=invocation.environment,
                working_directory=invocation.working_directory,
            )
        except OSError as error:
            return 126, [f"cannot be started: {error.strerror or error}: {error.filename or ''}"]
        run = asyncio.create_task(program.run(lambda line: self._log(container.name, line)))
        try:
            await asyncio.wait({run}, timeout=0 if first else SHOWN_SECONDS)
            if not run.done():
                self._report(container.name, None)
            code = await run
        finally:
            run.cancel()
            await asyncio.wait({run})
            if invocation.docker_name:
                await orphans.remove(invocation.docker_name)
        lines = list(program.last_lines)[-SHOWN_LINES:]
        return code, [without_secrets(line, self._secrets) for line in lines]

    def _report(self, container: str, fault: tuple[bool | None, str, str] | None) -> None:
        if fault is None:
            self._faults.pop(container, None)
        else:
            self._faults[container] = fault
        worst = sorted(self._faults.values(), key=lambda each: each[0] is not False)
        self._context.report(ADAPTER_READY, *(worst[0] if worst else (True, "", "")))

    def _log(self, container: str, line: str) -> None:
        text = without_secrets(line, self._secrets)
        logger.info("container_output", container=container, line=text, **self._names)


def without_secrets(line: str, secrets: Collection[str]) -> str:
    """Return a line of output in which these values are not shown."""
    for each in secrets:
        for part in each.splitlines():
            if len(part) >= _SECRET_CHARACTERS_MIN:
                line = line.replace(part, "***")
    return line


def _fault(container: str, code: int, lines: list[str], wait: float) -> tuple[str, str]:
    """Reason and message for a container that has ended."""
    output = "; ".join(line[-_LINE_SHOWN_MAX:] for line in lines)
    again = f"it is started again in {wait:g} s"
    said = f"; its last lines: {output}" if output else "; it has written nothing"
    if code == _DOCKER_FAILED:
        return "ContainerNotStarted", f"Docker cannot start container {container}, {again}{said}"
    return (
        "CrashLoopBackOff",
        f"container {container} has ended with exit code {code}, {again}{said}",
    )
