"""Which record the event loop is processing, noted where it outlives the process; and which records
are poison.

A record that stalls the loop makes the watchdog end the process (`headrace.runtime.watchdog`), and
then the next owner of its partition. So before the loop processes a record (filter, encoding,
reading a reply) its position is written to a memory-mapped file: 0.2 us, and no system call. The
watchdog writes a stack to another file before it ends the process; no other exit does. A dispatcher
that starts and finds both counts one death for that record; after more than two it is poison
(decision 0016).
"""

import fcntl
import json
import mmap
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from headrace.domain.record import StoredRecord

logger = structlog.get_logger(__name__)

DEATHS_MAX: Final = 2
"""A record that was being processed at more deaths than these is poison."""
SLOTS_MAX: Final = 256
"""Dispatchers that can share one state directory."""
READER: Final = "reader"
"""Stands for the subscription where a record is examined for all of them. After one death, each
subscription examines the record by itself.
"""
RECORDS_MAX: Final = 1000
"""Records whose deaths are remembered, the newest."""
LANES_SPARE: Final = 1000
"""Lanes of subscriptions that have ended which the file may have, besides as many as there are."""
_STACK_BYTES_MAX: Final = 4000
_MARK = struct.Struct("<iiq")


class RecordPosition(NamedTuple):
    """A record, and the subscription that processes it."""

    subscription: str
    topic: str
    partition: int
    offset: int


class PoisonTracker:
    """The note of one process. Without a directory it does not outlive the process, and no record
    is poison.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Lock a slot in `directory`, and count the deaths recorded there. Where that is not
        possible, log why and continue without.
        """
        self.evidence: int | None = None
        """File descriptor to which the watchdog writes a stack before it ends this process; None:
        nowhere.
        """
        self._poison: Mapping[tuple[str, str], Collection[tuple[int, int]]] = {}
        self._lanes: dict[tuple[str, str], tuple[int, bytes]] = {}
        """The number of each lane, and its line in the file."""
        self._last_number = 0
        self._lines = 0
        """How many lines the file has."""
        self._mark_file: int | None = None
        self._lane_names_file: int | None = None
        note: mmap.mmap | bytearray = bytearray(_MARK.size)
        if directory is not None:
            try:
                note = self._open(directory)
            except OSError as error:
                logger.warning(
                    "no_state_directory",
                    directory=str(directory),
                    error=error.strerror or str(error),
                    next_step="set HEADRACE_DISPATCHER_STATE_DIRECTORY",
                )
        self.mark: Callable[[int, int, int], None] = partial(_MARK.pack_into, note, 0)
        """The loop starts to process the record of this lane, partition and offset (`poison_key`
        for a retry record or dead letter).
        """
        self.clear: Callable[[], None] = partial(_MARK.pack_into, note, 0, 0, 0, 0)
        """It has finished that."""

    def lane_number(self, subscription: str, topic: str, names: Mapping[str, str]) -> int:
        """The number to `mark` records of this topic with, for this subscription (its uid). `names`
        are the fields by which the log names it.
        """
        found = self._lanes.get((subscription, topic))
        if found is None:
            number = self._last_number = self._last_number + 1
            line = json.dumps([subscription, topic, dict(names), number]).encode() + b"\n"
            found = self._lanes[subscription, topic] = number, line
            self._write_lanes([line])
        return found[0]

    def forget(self, subscription: str) -> None:
        """The lanes of this subscription (its uid) have ended."""
        for lane in [each for each in self._lanes if each[0] == subscription]:
            del self._lanes[lane]
        if self._lines > 2 * len(self._lanes) + LANES_SPARE:
            if self._lane_names_file is not None:
                os.lseek(self._lane_names_file, 0, os.SEEK_SET)
                os.ftruncate(self._lane_names_file, 0)
            self._lines = 0
            self._write_lanes([line for _, line in self._lanes.values()])

    def _write_lanes(self, lines: Sequence[bytes]) -> None:
        self._lines += len(lines)
        if self._lane_names_file is not None:
            os.write(self._lane_names_file, b"".join(lines))

    def poison(self, subscription: str, topic: str) -> Collection[tuple[int, int]]:
        """Partition and offset of each record that must not be processed."""
        return self._poison.get((subscription, topic), ())

    def descriptors(self) -> list[int]:
        """The open files; closing them is what the end of the process does."""
        return [
            each
            for each in (self._mark_file, self._lane_names_file, self.evidence)
            if each is not None
        ]

    def _open(self, directory: Path) -> mmap.mmap:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory == default_directory() and _others_may_write(directory.lstat()):
            raise OSError("it belongs to another user, or other users may write there")
        guard = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            deaths = _read_deaths(directory / "deaths.json")
            slot, note = self._lock_slot(directory, deaths)
            self._mark_file = note
            _write_deaths(directory / "deaths.json", deaths)
        finally:
            os.close(guard)
        self._lane_names_file = os.open(
            directory / f"{slot}.lanes", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600
        )
        self.evidence = os.open(
            directory / f"{slot}.stack", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600
        )
        poison: dict[tuple[str, str], set[tuple[int, int]]] = {}
        for position, count in deaths.items():
            if count > (0 if position.subscription == READER else DEATHS_MAX):
                poison.setdefault(position[:2], set()).add(position[2:])
        self._poison = poison
        os.ftruncate(note, _MARK.size)
        mapped = mmap.mmap(note, _MARK.size)
        mapped[:] = bytes(_MARK.size)
        return mapped

    def _lock_slot(self, directory: Path, deaths: dict[RecordPosition, int]) -> tuple[int, int]:
        """Lock a slot that no running process has, and count the deaths of those that have ended.
        The lock ends with the process.
        """
        taken: tuple[int, int] | None = None
        for slot in range(SLOTS_MAX):
            path = directory / f"{slot}.note"
            if taken is not None and not path.exists():
                break
            note = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(note)
                continue
            _count_death(directory, slot, os.pread(note, _MARK.size, 0), deaths)
            if taken is None:
                taken = slot, note
            else:
                os.close(note)
        if taken is None:
            raise OSError(f"{SLOTS_MAX} processes use it already")
        return taken


class TopicGuard:
    """What a reader of a topic needs to detect records that stall the event loop, for whichever
    subscription: it examines them for all.
    """

    __slots__ = ("_mark", "_number", "clear", "poison")

    def __init__(self, tracker: PoisonTracker, topic: str) -> None:
        self._number = tracker.lane_number(READER, topic, {"topic": topic})
        self._mark = tracker.mark
        self.clear = tracker.clear
        """The reader has finished the records that it has marked."""
        self.poison = tracker.poison(READER, topic)
        """Partition and offset of what the reader must not examine: each subscription does it by
        itself, so that the one at which it stalls the loop is found.
        """

    def mark(self, partition: int, offset: int) -> None:
        """The reader starts to examine this record."""
        self._mark(self._number, partition, offset)


def poison_key(record: StoredRecord) -> tuple[int, int]:
    """The partition and offset that identify a retry record or dead letter: those of its event in
    the channel.

    A process that dies before it commits writes such a record again, and all copies stall the loop.
    One without a readable origin is identified by its own offset.
    """
    for name, value in record.headers:
        if name == "headrace_origin":
            _, _, position = value.partition(b"/")
            partition, _, offset = position.rpartition(b"/")
            if (
                partition.isdigit()
                and offset.isdigit()
                and len(partition) < 10
                and len(offset) < 19
            ):
                return int(partition), int(offset)
    return -1 - record.partition, record.offset


def default_directory() -> Path:
    """The default state directory: one of this user below the temporary files. It need not outlive
    the machine.
    """
    return Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"


def _others_may_write(found: os.stat_result) -> bool:
    """Whether a directory below the temporary files, where every user may create one, is another
    user's.
    """
    return (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or bool(found.st_mode & 0o022)
    )


def _count_death(
    directory: Path, slot: int, note: bytes, deaths: dict[RecordPosition, int]
) -> None:
    """Count a death caused by the watchdog, log its stack and delete it."""
    stack = _read_or_empty(directory / f"{slot}.stack")
    if not stack:
        return
    (directory / f"{slot}.stack").write_bytes(b"")
    shown = stack[:_STACK_BYTES_MAX].decode("utf-8", "replace").splitlines()
    found = _read_position(note, _read_or_empty(directory / f"{slot}.lanes"))
    if found is None:
        logger.error(
            "ended_by_watchdog",
            error="the event loop stalled while no record was being processed",
            stack=shown,
        )
        return
    position, names = found
    deaths[position] = deaths.pop(position, 0) + 1
    logger.error(
        "ended_by_watchdog",
        error="the event loop stalled on a record",
        **(names or {"subscription": position.subscription}),
        record=f"{position.topic}/{position.partition}/{position.offset}",
        times=deaths[position],
        limit=DEATHS_MAX,
        stack=shown,
    )


def _read_position(note: bytes, lanes: bytes) -> tuple[RecordPosition, dict[str, str]] | None:
    """The record that was in progress, and the names of its subscription: none in a file that an
    earlier version wrote.
    """
    if len(note) != _MARK.size:
        return None
    number, partition, offset = _MARK.unpack(note)
    try:
        subscription, topic, names = _lane(lanes, number) if number > 0 else ("", "", {})
        fields = {key: str(names[key]) for key in ("kind", "namespace", "name") if key in names}
    except (ValueError, LookupError, TypeError):
        return None
    if not topic:
        return None
    return RecordPosition(str(subscription), str(topic), partition, offset), fields


def _lane(lanes: bytes, number: int) -> Sequence[Any]:
    """The lane with this number. In a file of an earlier version it is the number of the line.
    Raises ValueError, LookupError or TypeError if there is none.
    """
    for position, line in enumerate(lanes.splitlines(), 1):
        lane = json.loads(line)
        if number == (lane[3] if len(lane) > 3 else position):
            return (*lane, {})[:3]
    raise LookupError(number)


def _read_or_empty(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _read_deaths(path: Path) -> dict[RecordPosition, int]:
    try:
        return {
            RecordPosition(str(uid), str(topic), int(part), int(at)): int(count)
            for uid, topic, part, at, count in json.loads(_read_or_empty(path))
        }
    except (ValueError, TypeError):  # None yet, or damaged: counting starts again.
        return {}


def _write_deaths(path: Path, deaths: Mapping[RecordPosition, int]) -> None:
    rows = [[*position, count] for position, count in list(deaths.items())[-RECORDS_MAX:]]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(rows))
    fresh.replace(path)
