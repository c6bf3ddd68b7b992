"""Reads the schemas of EventTypes: those behind a URL are fetched, and all are compiled once, which
shows whether they can be used.

A schema is fetched once for each generation of its EventType; a failure is tried again, less and
less often.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from headrace.domain.backoff import Backoff
from headrace.domain.errors import HeadraceError, Permanent
from headrace.domain.event_schemas import InvalidSchema, LoadSchemaCompiler
from headrace.domain.ports import Clock
from headrace.resources.event_schema import PENDING, SchemaResult, SchemaSource
from headrace.runtime.tasks import end_task

logger = structlog.get_logger(__name__)

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the document at a URL, bounded in time and size. Raises HeadraceError."""

_FETCHES_MAX: Final = 4
"""Fetches at the same time."""
_AGAIN: Final = Backoff((10.0, 30.0, 60.0, 300.0))
"""Seconds until a fetch that has failed is tried again."""


class _Fetched(NamedTuple):
    result: SchemaResult
    failures: int
    again_at: float
    """Monotonic; infinite if it is not tried again."""


class EventSchemaReader:
    """Keeps what was read as long as it is wanted."""

    def __init__(self, fetch: Fetch, check: Callable[[str], SchemaResult], clock: Clock) -> None:
        """`check` compiles the text of a schema."""
        self._fetch = fetch
        self._check = check
        self._clock = clock
        self._inline: dict[str, SchemaResult] = {}
        self._fetched: dict[SchemaSource, _Fetched] = {}
        self._tasks: dict[SchemaSource, asyncio.Task[None]] = {}
        self.version = 0
        """Higher after each fetch that ended."""

    def read(self, wanted: Sequence[SchemaSource]) -> Mapping[str, SchemaResult]:
        """Return what is known of these schemas, by uid of the EventType, and start to fetch those
        that are missing. Others are forgotten.
        """
        texts = {each.text for each in wanted if each.text}
        self._inline = {text: each for text, each in self._inline.items() if text in texts}
        remote = {each for each in wanted if not each.text}
        self._fetched = {source: each for source, each in self._fetched.items() if source in remote}
        for source in wanted:
            if not source.text:
                self._start(source)
        return {
            source.uid: self._read_text(source.text)
            if source.text
            else self._fetched[source].result
            if source in self._fetched
            else PENDING
            for source in wanted
        }

    def is_due(self) -> bool:
        """Whether a fetch that has failed is to be tried again now."""
        now = self._clock.monotonic()
        return any(
            each.again_at <= now
            for source, each in self._fetched.items()
            if source not in self._tasks
        )

    async def stop(self) -> None:
        """Cancel the fetches in progress."""
        for task in list(self._tasks.values()):
            await end_task(task)

    def _read_text(self, text: str) -> SchemaResult:
        if text not in self._inline:
            self._inline[text] = self._check(text)
        return self._inline[text]

    def _start(self, source: SchemaSource) -> None:
        known = self._fetched.get(source)
        if source in self._tasks or len(self._tasks) >= _FETCHES_MAX:
            return
        if known is not None and self._clock.monotonic() < known.again_at:
            return
        self._tasks[source] = asyncio.create_task(self._run(source), name="fetch schema")

    async def _run(self, source: SchemaSource) -> None:
        before = self._fetched.get(source)
        failures = before.failures if before is not None else 0
        now = self._clock.monotonic
        try:
            text = (await self._fetch(source.url)).decode()
            self._fetched[source] = _Fetched(self._check(text), 0, float("inf"))
        except UnicodeDecodeError:
            invalid = SchemaResult(reason="InvalidSchema", message="not UTF-8")
            self._fetched[source] = _Fetched(invalid, 0, float("inf"))
        except HeadraceError as error:
            failures += 1
            again = float("inf") if isinstance(error, Permanent) else _AGAIN.seconds(failures)
            result = SchemaResult(reason="SchemaNotFetched", message=str(error))
            self._fetched[source] = _Fetched(result, failures, now() + again)
            logger.warning("schema_not_fetched", url=source.url, error=str(error))
        finally:
            del self._tasks[source]
            self.version += 1


def checker(load: LoadSchemaCompiler) -> Callable[[str], SchemaResult]:
    """The check of a schema by compiling it. The library is imported for the first one."""

    def check(text: str) -> SchemaResult:
        try:
            return SchemaResult(load()(text).text)
        except InvalidSchema as error:
            return SchemaResult(reason="InvalidSchema", message=str(error))

    return check


async def refuse_to_fetch(url: str) -> bytes:
    """A `Fetch` of a process that may not read URLs."""
    raise Permanent(f"{url[:200]} is not read: this process does not fetch schemas")
