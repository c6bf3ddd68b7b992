"""Resources in a compacted Kafka topic: the store of an installation without a Kubernetes API
server.

Reading: a `CompactedTopicReader` applies the topic to an index in memory, which serves all reads.
Writing: requests that wait together are decided one after the other, stored in one transaction, and
answered when the index has them. The resourceVersion is the offset of the record. One process, the
leader, writes; the others are standbys (`leader_election`).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import uuid4

import structlog

from headrace.adapters.kafka.compacted_topic import CompactedTopicReader
from headrace.adapters.kafka.options import KafkaOptions
from headrace.adapters.kafka.store.availability_probe import AvailabilityProbe
from headrace.adapters.kafka.store.leader_election import LEASE_KEY, LeaderElector
from headrace.adapters.kafka.store.transactional_log import TransactionalLog
from headrace.adapters.kafka.store.write_batch import (
    RECORD_BYTES_MAX,
    Decide,
    PendingRecord,
    Write,
    decide,
    record_value,
    reject,
)
from headrace.codec.objects import InvalidObject, read_object
from headrace.domain.control_topics import RESOURCES_TOPIC
from headrace.domain.errors import Fenced, HeadraceError, LogUnavailable, OutcomeUnknown
from headrace.domain.ports import Clock
from headrace.domain.record import StoredRecord
from headrace.resources.resource import (
    Change,
    Reference,
    Resource,
    ResourceKey,
    ResourceKind,
    StoredKinds,
    kind_of_object,
)
from headrace.resources.resource_rules import (
    ANY_OBJECT,
    Precondition,
    ResourceIndex,
    apply_changes,
    created,
    deleted,
    not_found,
    replaced,
    status_replaced,
)
from headrace.resources.timestamps import write_seconds

logger = structlog.get_logger(__name__)

_WRITES_MAX = 2_000
_BATCH_MAX = 500
_POLL_SECONDS = 0.2
_REFRESH_SECONDS = 15.0
_ACQUIRE_RETRY_SECONDS = 1.0
_WRITE_SECONDS = 8.0
"""How long a caller waits for a write. The outcome of the write may be known only later."""

T = TypeVar("T")


class KafkaResourceStore:
    """A `ResourceStore` over one compacted topic, which must exist."""

    def __init__(
        self,
        options: KafkaOptions,
        *,
        kinds: StoredKinds,
        clock: Clock,
        holder: str,
        topic: str = RESOURCES_TOPIC,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        """`holder` is the name of this controller. A name that is the same after a restart lets it
        acquire the lease again immediately.

        While `may_write` returns False, the store is a standby, and a leader releases the lease:
        another election decides which controller works.
        """
        self._kinds = kinds
        self._clock = clock
        self._index = ResourceIndex()
        self._reader = CompactedTopicReader(options, topic, self._apply, read_committed=True)
        self._topic = topic
        self._log = TransactionalLog(options, topic, transactional_id=f"{topic}.writer")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="resources")
        self._watchers: list[Callable[[Sequence[Change]], None]] = []
        self._writes: deque[Write] = deque()
        self._wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._probe = AvailabilityProbe(self._reader, clock)
        self._stopping = False
        self._elector = LeaderElector(
            holder=holder, clock=clock, store=self._store_record, may_lead=may_write
        )

    @property
    def epoch(self) -> int | None:
        """As `ResourceStore.epoch`."""
        return self._elector.epoch

    @property
    def resource_version(self) -> str:
        """As `ResourceStore.resource_version`."""
        return str(max(self._index.position, 1))

    @property
    def last_error(self) -> str | None:
        """As `ResourceStore.last_error`."""
        return self._probe.last_error

    @property
    def is_becoming_leader(self) -> bool:
        """As `ResourceStore.is_becoming_leader`."""
        if self.epoch is not None or self._stopping or self.last_error is not None:
            return False
        return self._elector.may_acquire

    @property
    def holder(self) -> str:
        """The controller that writes, as far as this process knows."""
        return self._elector.leader

    @property
    def identity(self) -> str:
        """As `ResourceStore.identity`: the resources are in the same Kafka as the topics."""
        return "kafka"

    async def start(self) -> None:
        """As `ResourceStore.start`. Raises LogUnavailable."""
        await self._reader.start()
        self._probe.start()
        self._task = asyncio.create_task(self._run(), name="resource store")

    async def stop(self) -> None:
        """As `ResourceStore.stop`."""
        self._stopping = True
        self._wakeup.set()
        self._probe.stop()
        task, self._task = self._task, None
        if task is not None:
            await task
        await self._reader.stop()
        self._thread.shutdown(wait=False)

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource:
        """As `ResourceStore.get`."""
        found = self._index.get(ResourceKey(kind.group, kind.plural, namespace, name))
        if found is None:
            raise not_found(kind, name)
        return found

    def list(self, kind: ResourceKind, namespace: str | None = None) -> Sequence[Resource]:
        """As `ResourceStore.list`."""
        return self._index.of_kind(kind, namespace)

    def find(self, wanted: Reference) -> Resource | None:
        """As `ResourceStore.find`."""
        return self._index.find(wanted)

    def track_kinds(self, kinds: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """As `ResourceStore.track_kinds`: all kinds are in this store."""
        return {}

    async def create(self, resource: Resource) -> Resource:
        """As `ResourceStore.create`."""
        uid, now = str(uuid4()), self._now()
        return _require_stored(
            await self._submit(resource.key, lambda old: created(resource, old, uid=uid, now=now))
        )

    async def replace(self, resource: Resource) -> Resource | None:
        """As `ResourceStore.replace`."""
        return await self._submit(resource.key, lambda old: replaced(resource, old))

    async def apply(self, resource: Resource) -> Resource:
        """As `ResourceStore.apply`."""
        uid, now = str(uuid4()), self._now()
        return _require_stored(
            await self._submit(
                resource.key, lambda old: apply_changes(resource, old, uid=uid, now=now)
            )
        )

    async def replace_status(self, resource: Resource) -> Resource:
        """As `ResourceStore.replace_status`."""
        return _require_stored(
            await self._submit(resource.key, lambda old: status_replaced(resource, old))
        )

    async def delete(
        self,
        kind: ResourceKind,
        namespace: str,
        name: str,
        *,
        precondition: Precondition = ANY_OBJECT,
        finalizers: Sequence[str] = (),
    ) -> Resource | None:
        """As `ResourceStore.delete`."""
        now = self._now()
        key = ResourceKey(kind.group, kind.plural, namespace, name)
        return await self._submit(
            key,
            lambda old: deleted(
                old, kind=kind, name=name, precondition=precondition, finalizers=finalizers, now=now
            ),
        )

    def watch(self, changed: Callable[[Sequence[Change]], None]) -> None:
        """As `ResourceStore.watch`."""
        self._watchers.append(changed)

    async def _submit(self, key: ResourceKey, rule: Decide) -> Resource | None:
        if self.epoch is None or self._stopping:
            raise self._not_leader_error()
        if len(self._writes) >= _WRITES_MAX:
            raise LogUnavailable(
                f"{_WRITES_MAX} writes are waiting to be stored; try again in a moment"
            )
        write = Write(key, rule, asyncio.get_running_loop().create_future())
        self._writes.append(write)
        self._wakeup.set()
        try:
            async with asyncio.timeout(_WRITE_SECONDS):
                return await write.response
        except TimeoutError:
            raise self._timeout_error(write) from None

    def _timeout_error(self, write: Write) -> HeadraceError:
        message = f"Kafka did not answer the write within {_WRITE_SECONDS:g} s"
        if write.in_progress:
            return OutcomeUnknown(
                f"{message}; it may have been stored, now or later: read before you write again"
            )
        # The caller has cancelled it, but it would still be stored.
        with contextlib.suppress(ValueError):
            self._writes.remove(write)
        return LogUnavailable(f"{message}; nothing was stored")

    def _not_leader_error(self) -> HeadraceError:
        problem = self.last_error
        if problem is not None:
            return LogUnavailable(f"{problem}; nothing was stored")
        return self._elector.not_leader_error()

    async def _run(self) -> None:
        """Wait as a standby, acquire the lease, write until fenced; repeat."""
        while not self._stopping:
            try:
                if self._elector.must_release:
                    await self._release_lease()
                    self._step_down()
                elif self.epoch is not None:
                    await self._write_as_leader()
                elif self._elector.may_acquire:
                    await self._acquire_leadership()
                else:
                    await self._sleep(_POLL_SECONDS)
            except Exception:
                # An internal error must not leave requests waiting for a writer that has ended.
                logger.exception("resource_store_failed", topic=self._topic)
                self._step_down()
        await self._close()

    async def _sleep(self, seconds: float) -> None:
        self._wakeup.clear()
        if self._writes or self._stopping:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()

    async def _acquire_leadership(self) -> None:
        """Fence the earlier writer, read the log to its end, and write the lease of this one."""
        try:
            await self._in_thread(self._log.open)
            if not await self._reader.refresh(_REFRESH_SECONDS):
                raise LogUnavailable(
                    self._reader.last_error or "the resources could not be read to their end"
                )
            epoch = await self._elector.acquire()
        except HeadraceError as error:
            logger.warning("leadership_not_acquired", topic=self._topic, error=str(error))
            if isinstance(error, Fenced):
                self._elector.defer()
            await self._sleep(_ACQUIRE_RETRY_SECONDS)
            return
        logger.info("leadership_acquired", topic=self._topic, epoch=epoch)
        self._notify(())

    async def _open_again(self) -> None:
        """Open the log with the renewed credentials, unless another controller has taken over: that
        would fence it.
        """
        if not await self._reader.refresh(_REFRESH_SECONDS):
            raise LogUnavailable("the resources could not be read to their end")
        if self._elector.is_taken_over:
            self._step_down()
            return
        await self._in_thread(self._log.open)
        logger.debug("resource_writer_renewed", topic=self._topic)

    async def _write_as_leader(self) -> None:
        try:
            if self._log.is_outdated:
                await self._open_again()
                return
            if self._elector.seconds_to_renewal <= 0:
                await self._elector.renew()
            if not self._writes:
                await self._sleep(self._elector.seconds_to_renewal)
            if self._writes:
                await self._write_batch()
        except Fenced:
            self._step_down()
        except OutcomeUnknown as error:
            await self._resolve_outcome(error)
        except HeadraceError as error:
            logger.warning(
                "resources_not_written",
                topic=self._topic,
                error=str(error),
                next_step="check Kafka; resources cannot be written until it answers",
            )
            await self._sleep(_POLL_SECONDS)

    async def _write_batch(self) -> None:
        batch = [self._writes.popleft() for _ in range(min(len(self._writes), _BATCH_MAX))]
        for write in batch:
            write.in_progress = True
        responses, records = decide(batch, self._index)
        try:
            offsets = (
                await self._in_thread(
                    lambda: self._log.store([(str(each.key), each.value) for each in records])
                )
                if records
                else []
            )
        except OutcomeUnknown as error:
            stored = await self._resolve_outcome(error, last=records[-1])
            if not stored:
                reject(
                    [response.write for response in responses],
                    _not_stored_error(error) if stored is False else _maybe_stored_error(error),
                )
                return
            offsets = []
        except HeadraceError as error:
            message = (
                self._not_leader_error()
                if isinstance(error, Fenced)
                else _not_stored_error(error)
                if isinstance(error, LogUnavailable)
                else error
            )
            reject([response.write for response in responses], message)
            raise
        except Exception:
            reject(
                [response.write for response in responses],
                OutcomeUnknown("an internal error ended the write; read before you write again"),
            )
            raise
        applied = [
            self._index.apply(each.key, each.new, offset)
            for each, offset in zip(records, offsets, strict=False)
        ]
        changes = [change for change in applied if change is not None]
        if changes:
            self._notify(changes)
        for response in responses:
            response.send(offsets, self._index)

    async def _resolve_outcome(
        self, error: OutcomeUnknown, last: PendingRecord | None = None
    ) -> bool | None:
        """Determine whether a batch with unknown outcome is stored: open the log again, which ends
        the transaction, and read to the end.

        The log is not opened when another controller has taken over meanwhile: that would fence it,
        and it has ended the transaction already.

        True when the batch is stored, None when that cannot be determined. A batch is stored whole
        or not at all, so its last record is enough.
        """
        logger.warning("write_outcome_unknown", topic=self._topic, error=str(error))
        try:
            # As far as possible: the open transaction may hide the records after it.
            await self._reader.refresh(_POLL_SECONDS)
            if not self._elector.is_taken_over:
                await self._in_thread(self._log.open)
            if not await self._reader.refresh(_REFRESH_SECONDS):
                raise LogUnavailable("the resources could not be read to their end")
        except HeadraceError as failed:
            logger.warning("resource_log_not_readable", topic=self._topic, error=str(failed))
            self._step_down()
            return None
        if self._elector.is_taken_over:
            self._step_down()
        if last is None:
            return False
        found = self._index.get(last.key)
        return record_value(found) == last.value

    def _step_down(self) -> None:
        logger.warning("leadership_lost", topic=self._topic)
        self._elector.step_down()
        waiting, self._writes = list(self._writes), deque()
        reject(waiting, self._not_leader_error())
        self._notify(())

    async def _close(self) -> None:
        try:
            if self.epoch is not None:
                while self._writes:
                    await self._write_batch()
        except HeadraceError as error:
            logger.warning("writes_not_stored_at_stop", topic=self._topic, error=str(error))
        await self._release_lease()
        self._elector.step_down()
        reject(list(self._writes), self._not_leader_error())
        await self._in_thread(self._log.close)

    async def _release_lease(self) -> None:
        try:
            await self._elector.release()
        except HeadraceError as error:
            logger.warning(
                "lease_not_released",
                topic=self._topic,
                error=str(error),
                next_step="none; another controller takes over when the lease expires",
            )

    async def _store_record(self, key: str, value: bytes) -> None:
        await self._in_thread(lambda: self._log.store([(key, value)]))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _apply(self, records: Sequence[StoredRecord]) -> None:
        """Apply the records that the reader read. Loop."""
        changes = []
        for record in records:
            name = (record.key or b"").decode(errors="replace")
            try:
                if name == LEASE_KEY:
                    self._elector.observe(record)
                elif (change := self._apply_one(name, record)) is not None:
                    changes.append(change)
            except (InvalidObject, ValueError) as error:
                logger.error(
                    "resource_record_not_readable",
                    key=name,
                    origin=str(record.origin),
                    error=str(error),
                )
        if changes:
            self._notify(changes)

    def _apply_one(self, name: str, record: StoredRecord) -> Change | None:
        if record.offset <= self._index.position:
            return None  # Written by this process: not parsed again.
        parts = name.split("/")
        if len(parts) != 4:
            raise ValueError("its key is not the key of a resource")
        key = ResourceKey(*parts)
        document = (
            None if record.value is None else read_object(record.value, bytes_max=RECORD_BYTES_MAX)
        )
        kind = self._kinds.of_key(key) or kind_of_object(key, document or {})
        resource = None if document is None else Resource(kind, document)
        return self._index.apply(key, resource, record.offset)

    def _notify(self, changes: Sequence[Change]) -> None:
        for changed in self._watchers:
            changed(changes)

    def _now(self) -> str:
        return write_seconds(self._clock.now())


def _not_stored_error(error: HeadraceError) -> LogUnavailable:
    return LogUnavailable(f"Kafka did not store the write: {error}; nothing was stored")


def _maybe_stored_error(error: HeadraceError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"Kafka did not answer the write: {error}; it may have been stored: read before you write"
        " again"
    )


def _require_stored(resource: Resource | None) -> Resource:
    if resource is None:
        raise LogUnavailable("the resource was removed while it was being written; try again")
    return resource
