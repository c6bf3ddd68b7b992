"""Samples a running installation: memory of each process, and the committed offsets of each
consumer group.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import psutil

from headrace.domain.record import Partition
from tests.support.checker import Committed
from tests.support.headrace_under_test import HeadraceUnderTest
from tests.support.offset_fetch import OffsetReader
from tests.support.time_series import Curve, Point, without_start

OFFSETS_SECONDS = 1.0
MEMORY_SECONDS = 0.25
CALL_SECONDS = 3.0
START_SECONDS = 30.0
"""A process that has just started fills its caches."""
MEMORY_MIB = 150.0
GROWTH_MIB = 10.0


class Observer:
    """Samples in two threads from `start` to `stop`. `groups` maps a consumer group to the topics
    it reads.
    """

    def __init__(self, system: HeadraceUnderTest, groups: Mapping[str, Sequence[str]]) -> None:
        self.peak_rss_mib: dict[str, float] = defaultdict(float)
        self._memory: dict[str, tuple[int, list[Point]]] = {}
        """By name: the process's newest run, and its memory."""
        self.committed: list[Committed] = []
        self._system = system
        self._groups = groups
        self._ended = threading.Event()
        self._offsets = OffsetReader(system.log.bootstrap_servers, seconds=CALL_SECONDS)
        self._one_at_a_time = threading.Lock()
        self._threads = [
            threading.Thread(target=each, daemon=True)
            for each in (self._watch_memory, self._watch_offsets)
        ]

    def start(self) -> None:
        """Start sampling."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30.0)
        self._offsets.close()

    def look(self) -> dict[tuple[str, str], int]:
        """Sample all groups now; the offsets by group and `topic/partition`. Raises OSError while
        Kafka is unavailable.
        """
        found: dict[tuple[str, str], int] = {}
        with self._one_at_a_time:
            for group in self._groups:
                committed = self._offsets.committed(group)
                at = time.monotonic()
                for partition, offset in committed.items():
                    found[group, _name(partition)] = offset
                    self.committed.append(Committed(at, group, _name(partition), offset))
        return found

    def ends(self) -> dict[tuple[str, str], int]:
        """End offsets of what each group reads, by group and `topic/partition`; empty partitions
        are left out.
        """
        ends = self._system.log.ends(
            {topic for topics in self._groups.values() for topic in topics}
        )
        return {
            (group, _name(place)): end
            for group, topics in self._groups.items()
            for place, end in ends.items()
            if place.topic in topics and end > 0
        }

    def lag(self) -> dict[str, int]:
        """Records that are not done, by group; groups without any are left out."""
        ends, committed = self.ends(), self.look()
        behind: dict[str, int] = defaultdict(int)
        for place, end in ends.items():
            behind[place[0]] += end - committed.get(place, 0)
        return {group: records for group, records in behind.items() if records}

    def memory(self) -> list[Curve]:
        """The memory of each process's newest run, without its start."""
        return [
            Curve(
                invariant=9,
                subject=name,
                unit="MiB",
                points=without_start(points, START_SECONDS) or points,
                ceiling=MEMORY_MIB,
                growth=GROWTH_MIB,
            )
            for name, (_, points) in sorted(self._memory.items())
        ]

    def _watch_memory(self) -> None:
        while not self._ended.wait(MEMORY_SECONDS):
            for name, process in list(self._system.services.items()):
                if process.running:
                    try:
                        rss = psutil.Process(process.pid).memory_info().rss / (1 << 20)
                    except psutil.Error:
                        continue
                    self.peak_rss_mib[name] = max(self.peak_rss_mib[name], round(rss, 1))
                    if self._memory.get(name, (0, []))[0] != process.pid:
                        self._memory[name] = (process.pid, [])
                    self._memory[name][1].append((time.monotonic(), rss))

    def _watch_offsets(self) -> None:
        while not self._ended.wait(OFFSETS_SECONDS):
            try:
                self.look()
            except OSError:
                continue  # Kafka is stopped, as planned, or still loading; sampled again below


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.partition}"


def delay_topics(system: HeadraceUnderTest) -> tuple[str, list[str]]:
    """The group and the topics of the delays, as in the routing table."""
    newest = [
        each
        for each in system.log.records("headrace.routing")
        if each.key == b"delays" and each.value
    ]
    record = json.loads(newest[-1].value or b"{}")
    return record["group"], [tier["topic"] for tier in record["tiers"]]
