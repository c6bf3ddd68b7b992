"""Deletes finished records from the topics that never expire by themselves.

Retry and delay topics keep their records without limit, because their events are not delivered yet.
Below a committed offset everything is finished (a commit never passes unfinished work), so those
records are deleted. Without this, the events of an hour of failing subscribers would stay on disk
forever.
"""

import asyncio
from collections.abc import Mapping

import structlog

from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.errors import HeadraceError, Permanent
from headrace.resources.control_ports import ResourceStore, TopicAdmin
from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.naming import delay_group, retry_group
from headrace.resources.ownership_record import TopicRole, TopicStage, read_ownership_record
from headrace.runtime.tasks import end_task

logger = structlog.get_logger(__name__)

EVERY_SECONDS = 60.0


class TopicPurger:
    """Deletes finished records once a minute while this controller is the leader."""

    def __init__(
        self,
        *,
        store: ResourceStore,
        admins: Mapping[str, TopicAdmin],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """`admins` by backend; what is in another backend is left alone."""
        self._store = store
        self._admins = admins
        self._every = every_seconds
        self._purged: dict[tuple[str, int], int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the task."""
        self._task = asyncio.create_task(self._run(), name="topic purge")

    async def stop(self) -> None:
        """Stop the task."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            if self._store.epoch is None:
                continue
            for backend in self._admins:
                await self._delete_records(backend)

    async def _delete_records(self, backend: str) -> None:
        try:
            await self.delete_records(backend)
        except HeadraceError as error:
            logger.warning(
                "purge_failed", backend=backend, error=str(error), retry_seconds=self._every
            )
        except Exception:
            logger.exception(
                "purge_internal_error",
                backend=backend,
                retry_seconds=self._every,
                next_step="please report this with the traceback",
            )

    async def delete_records(self, backend: str = KAFKA) -> None:
        """Delete the records of every retry and delay topic of a backend below its group's
        committed offsets. A topic that the backend refuses is logged and does not stop the others.
        Raises Temporary when the backend does not answer.
        """
        refused: list[Permanent] = []
        for topic, group in self._topics():
            if backend_of(topic) == backend:
                try:
                    await self._purge(self._admins[backend], topic, group)
                except Permanent as error:
                    refused.append(error)
        if refused:
            logger.warning(
                "purge_failed",
                backend=backend,
                topics=len(refused),
                error=str(refused[0]),
                retry_seconds=self._every,
            )

    async def _purge(self, admin: TopicAdmin, topic: str, group: str) -> None:
        committed = (await admin.committed({group: topic})).get(group, {})
        new = {
            p: offset for p, offset in committed.items() if offset > self._purged.get((topic, p), 0)
        }
        if new:
            await admin.delete_records(topic, new)
            self._purged |= {(topic, partition): offset for partition, offset in new.items()}

    def _topics(self) -> list[tuple[str, str]]:
        """The topics to purge, each with the group that reads it."""
        found = []
        for record in self._store.list(OWNERSHIP_RECORD):
            ownership = read_ownership_record(record)
            for topic in ownership.topics:
                if topic.stage is not TopicStage.CREATED or ownership.retired_until is not None:
                    continue
                if topic.role is TopicRole.RETRY:
                    found.append((topic.name, retry_group(ownership.group)))
                elif topic.role is TopicRole.DELAY:
                    found.append((topic.name, delay_group(backend_of(topic.name))))
        return found
