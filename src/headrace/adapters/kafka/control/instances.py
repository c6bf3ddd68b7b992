"""Tracks which processes are live: every process writes its state to the compacted topic
`headrace.instances` every second, and the controller reads it.

A state is small (id, service, applied position, states of its groups). Only the newest one of each
process is kept.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence

from headrace.adapters.kafka.compacted_topic import START_SECONDS, CompactedTopicReader
from headrace.adapters.kafka.control.durable_append import append_durably
from headrace.adapters.kafka.options import KafkaOptions
from headrace.domain.backend_name import KAFKA
from headrace.domain.control_topics import INSTANCES_TOPIC
from headrace.domain.observed_event_types import BATCH_MAX, ObservedEventType
from headrace.domain.ports import Clock, Instance, Log
from headrace.domain.record import Record, StoredRecord
from headrace.domain.schema_faults import REPORTED_MAX, TEXT_MAX
from headrace.domain.source_report import read_sources

REPORT_SECONDS = 5.0
LIVE_SECONDS = 10.0
"""A process without a report for this long counts as gone."""
SKEW_SECONDS = 5.0
"""How much Kafka's clock and the local clock may differ at the start. Counting a live process as
gone would be worse than the opposite.
"""
_QUIET_SECONDS = 2.5
"""Kafka is queried after this time without a report: processes may be gone, or it is Kafka
that does not answer. While a process is live and reports, there is no query.
"""
_PROBE_RETRY_SECONDS = 0.5
_PROBE_TIMEOUT_SECONDS = 5.0
STATE_BYTES_MAX = 262_144
INSTANCES_MAX = 10_000
_VERSION = 1
_TYPE_FIELDS_MIN = 3


class KafkaInstances:
    """Implements `headrace.domain.ports.Instances`.

    A data plane process only reports, through the log that it already has. With `follow` the
    process also reads the reports of others.
    """

    def __init__(
        self,
        options: KafkaOptions,
        log: Log,
        clock: Clock,
        *,
        follow: bool,
        topic: str = INSTANCES_TOPIC,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._log = log
        self._clock = clock
        self._topic = topic
        self._reports: dict[str, tuple[float, Instance]] = {}
        self._complete = False
        self._probe: asyncio.Task[None] | None = None
        self._reader = (
            CompactedTopicReader(options, topic, self._on_records, start_seconds=start_seconds)
            if follow
            else None
        )

    async def start(self) -> None:
        """Read the reports of others, with `follow`."""
        if self._reader is not None:
            await self._reader.start()
            if self._probe is None:
                self._probe = asyncio.create_task(
                    _query_when_quiet(self._reader), name="instances probe"
                )
        self._complete = True

    async def stop(self) -> None:
        """Stop reading. The caller decides whether to `deregister`."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()
        if self._reader is not None:
            await self._reader.stop()

    async def report(self, instance: Instance) -> None:
        """See the port."""
        await self._append(Record(instance.id.encode(), write(instance), []))

    async def deregister(self, instance_id: str) -> None:
        """See the port."""
        await self._append(Record(instance_id.encode(), None, []))

    def live(self) -> Sequence[Instance]:
        """See the port. While Kafka cannot be read or does not answer, nobody's reports arrive: a
        process counts as gone only after it could have reported for `LIVE_SECONDS`.
        """
        if self._reader is None or self._reader.answering_seconds >= LIVE_SECONDS:
            limit = self._clock.monotonic() - LIVE_SECONDS
            gone = [key for key, (seen_at, _) in self._reports.items() if seen_at < limit]
            for key in gone:
                del self._reports[key]
        return [instance for _, instance in self._reports.values()]

    async def _append(self, record: Record) -> None:
        await append_durably(
            self._log, self._topic, record, seconds=REPORT_SECONDS, what="a report"
        )

    def _on_records(self, records: Sequence[StoredRecord]) -> None:
        now = self._clock.monotonic()
        for record in records:
            key = (record.key or b"").decode("utf-8", errors="replace")
            instance = None if record.value is None else read(record.value)
            if instance is None or not self._recent(record):
                self._reports.pop(key, None)
            elif key in self._reports or len(self._reports) < INSTANCES_MAX:
                self._reports[key] = (now, instance)

    def _recent(self, record: StoredRecord) -> bool:
        """Return whether this was written recently. Checked only for records from before the start;
        later ones are read as they are written.
        """
        if self._complete:
            return True
        age = self._clock.now() - record.timestamp_ms / 1000
        return age < LIVE_SECONDS + SKEW_SECONDS


async def _query_when_quiet(reader: CompactedTopicReader) -> None:
    """Query the end of the log whenever no report has come for a while: a frozen Kafka gives no
    error.
    """
    while True:
        await asyncio.sleep(max(_QUIET_SECONDS - reader.silent_seconds, _PROBE_RETRY_SECONDS))
        if reader.silent_seconds >= _QUIET_SECONDS:
            await reader.refresh(_PROBE_TIMEOUT_SECONDS)


def write(instance: Instance) -> bytes:
    """Return the state as JSON."""
    members = {
        "v": _VERSION,
        "id": instance.id,
        "service": instance.service,
        "applied": instance.applied,
        "seenMs": instance.seen_ms,
        "groups": dict(instance.groups),
    }
    if instance.types:
        members["types"] = list(instance.types)
    if tuple(instance.backends) != (KAFKA,):
        members["backends"] = list(instance.backends)
    if instance.schema_faults:
        members["schemaFaults"] = dict(instance.schema_faults)
    if instance.sources:
        members["sources"] = {uid: each.to_json() for uid, each in instance.sources.items()}
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()


def read(value: bytes) -> Instance | None:
    """Return the state in a record; None when this version does not understand it."""
    if len(value) > STATE_BYTES_MAX:
        return None
    try:
        members = json.loads(value)
        if members["v"] > _VERSION:
            return None
        groups = {str(uid): str(state) for uid, state in dict(members.get("groups") or {}).items()}
        return Instance(
            id=str(members["id"]),
            service=str(members["service"]),
            applied=int(members["applied"]),
            seen_ms=int(members["seenMs"]),
            groups=groups,
            types=_types(members.get("types")),
            backends=tuple(map(str, members.get("backends") or (KAFKA,))),
            schema_faults=_schema_faults(members.get("schemaFaults")),
            sources=read_sources(members.get("sources")),
        )
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _schema_faults(value: object) -> Mapping[str, str]:
    """Return the faults in a report, within their limits."""
    entries = list(value.items())[:REPORTED_MAX] if isinstance(value, dict) else []
    return {str(uid): text[:TEXT_MAX] for uid, text in entries if isinstance(text, str)}


def _types(value: object) -> Sequence[ObservedEventType]:
    """Return the event types in a report that this version understands. The rest of the report is
    valid in any case.
    """
    entries = (
        [each for each in value[:BATCH_MAX] if isinstance(each, list)]
        if isinstance(value, list)
        else []
    )
    return tuple(
        ObservedEventType(*map(str, each[: len(ObservedEventType._fields)]))
        for each in entries
        if len(each) >= _TYPE_FIELDS_MIN
    )
