"""The adapter `camel`: fetches what the routes need, runs Camel beside this process, and turns what
it posts into events.

An exchange of Camel succeeds when the sink has taken its event; otherwise it fails, and what
follows is up to the component and to the error handler of the route. A file stays where it is, a
message is delivered again by its broker, the tick of a timer is gone.
"""

import asyncio
import contextlib
from typing import ClassVar, Final

import structlog

from headrace.runtime.guarded_program import GuardedProgram
from headrace_sources.adapters.camel import artifacts
from headrace_sources.adapters.camel.config import CamelConfig
from headrace_sources.adapters.camel.endpoint import SinkEndpoint
from headrace_sources.adapters.camel.health import ConsumerHealth
from headrace_sources.adapters.camel.process import (
    STARTED,
    CamelFiles,
    command,
    fault_of,
    read_properties,
    without_secrets,
)
from headrace_sources.adapters.camel.routes import routes_of
from headrace_sources.source import DEPLOYED, Emit, SourceConfig, SourceContext, SourceFault

logger = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0
_STACK: Final = ("\tat ", "\t... ")
"""Lines of stack traces, which are not logged."""
STOP_SECONDS: Final = 2.5
"""Time for the exchanges in flight; Camel itself waits 2 s for them."""


class CamelSource:
    """Implements `headrace_sources.source.Source`."""

    Config: ClassVar[type[SourceConfig]] = CamelConfig

    def __init__(self, config: CamelConfig, context: SourceContext) -> None:
        self._config = config
        self._context = context
        self._started = asyncio.Event()
        self._secrets: tuple[str, ...] = ()
        self._health = ConsumerHealth(context)

    async def run(self, emit: Emit) -> None:
        """Run Camel until it ends, which is a fault."""
        if not self._context.settings.camel:
            raise SourceFault(
                "CamelDisabled",
                "this sources service does not run Camel, because its routes can run programs and"
                " read files as the service does; an operator allows it with"
                " HEADRACE_SOURCES_CAMEL=true",
            )
        # Before anything is waited for: until then a source that runs counts as deployed.
        self._report_starting()
        missing = await asyncio.to_thread(artifacts.missing_programs)
        if missing is not None:
            raise SourceFault("JavaMissing", f"the sources service cannot run Camel: {missing}")
        routes = routes_of(self._config)
        with contextlib.closing(await artifacts.fetch_catalog(self._progress)) as catalog:
            wanted = artifacts.artifacts_of(routes, self._config.dependencies, catalog)
        jars = await artifacts.fetch(wanted, self._progress)
        properties = await self._properties()
        endpoint = SinkEndpoint(self._config, self._context.clock, emit, self._health.works)
        files = CamelFiles()
        try:
            async with endpoint.listening() as url:
                self._secrets += (url,)
                files.write(routes, properties, url)
                await self._run_camel(
                    command(files.directory, jars, self._context.settings.camel_heap_mb), files
                )
        except OSError as error:
            raise SourceFault("CamelNotStarted", f"Camel could not be started: {error}") from None
        finally:
            self._health.close()
            files.remove()

    def _report_starting(self) -> None:
        self._context.report(DEPLOYED, None, "Starting", "Camel is being started")

    def _progress(self, text: str) -> None:
        self._context.report(DEPLOYED, None, "Downloading", text)

    async def _properties(self) -> dict[str, str]:
        """All properties, those of Secrets too."""
        found = dict(self._config.properties)
        secrets: list[str] = []
        for each in self._config.properties_from:
            value = (await self._context.secret(each.secret_key_ref)).decode("utf-8", "replace")
            read = {each.name: value} if each.name else read_properties(value)
            found |= read
            secrets += read.values()
        self._secrets = tuple(secrets)
        return found

    async def _run_camel(self, arguments: list[str], files: CamelFiles) -> None:
        self._report_starting()
        program = await GuardedProgram.start(
            arguments, stop_seconds=STOP_SECONDS, directory=files.directory
        )
        run = asyncio.create_task(program.run(self._log), name=f"camel {self._context.name}")
        started = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait(
                {run, started}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if self._started.is_set():
                # Camel has read them.
                files.remove()
                self._health.started()
            elif not run.done():
                raise SourceFault(
                    "CamelNotStarted", f"Camel did not start its routes in {START_SECONDS:.0f} s"
                )
            code = await run
        finally:
            for task in (run, started):
                task.cancel()
            await asyncio.wait({run, started})
        lines = [without_secrets(line, self._secrets) for line in program.last_lines]
        raise fault_of(code, lines, files.directory, started=self._started.is_set())

    def _log(self, line: str) -> None:
        if STARTED.search(line):
            self._started.set()
        if line.startswith(_STACK):
            return
        shown = without_secrets(line, self._secrets)
        self._health.read_line(shown)
        level = logger.error if line.startswith("ERROR ") else logger.info
        if line.startswith("WARN "):
            level = logger.warning
        level(
            "camel",
            line=shown,
            namespace=self._context.namespace,
            name=self._context.name,
        )
