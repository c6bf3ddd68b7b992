"""The API put together: what follows the store, what works on it, and the application in front."""

from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime

from fastapi import FastAPI

from headrace.domain.ports import Clock
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change, ResourceKind
from headrace.resources.timestamps import write_time
from headrace.runtime.health import Health
from headrace_controller.api.access import Doorkeeper
from headrace_controller.api.doors.first_writes import FirstWrites
from headrace_controller.api.doors.house_rules import HouseRules
from headrace_controller.api.doors.judging import Judging
from headrace_controller.api.doors.reading import ReadingDoors
from headrace_controller.api.doors.removing import RemovingDoors
from headrace_controller.api.doors.writes import Writes
from headrace_controller.api.doors.writing import WritingDoors
from headrace_controller.api.kinds.catalog import Catalog
from headrace_controller.api.server import ApiServer
from headrace_controller.api.upkeep.duties import Duty
from headrace_controller.api.upkeep.established import Establishment
from headrace_controller.api.upkeep.garbage import GarbageCollector
from headrace_controller.api.upkeep.namespaces import Namespaces
from headrace_controller.api.upkeep.recorder import recording
from headrace_controller.api.watching.watches import WatchHub
from headrace_controller.api.work import Work

WATCHES_MAX = 1_000


class KubernetesApi:
    """All of the API but its socket. Start it after the store, which it is given started."""

    def __init__(self, store: ResourceStore, catalog: Catalog, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.catalog = catalog
        self.hub = WatchHub(lambda: store.position, watches_max=WATCHES_MAX)
        self._establishment = Establishment(store, catalog, self.now)
        self._garbage = GarbageCollector(store, self._kinds, clock.monotonic)
        namespaces = self._namespaces = Namespaces(store, self._kinds)
        self.recorder, events = recording(store, self.now)
        self._duties = (
            Duty("definitions", store, self._establishment.work, self._establishment.concerns),
            Duty("namespaces", store, namespaces.work, namespaces.concerns),
            Duty("garbage", store, self._garbage.work, self._garbage.concerns),
            events,
        )
        self._work = Work()
        self._judging = Judging()
        self._following = False

    def now(self) -> datetime:
        """The time, for what clients are shown."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def application(self, health: Health, doorkeeper: Doorkeeper, *, names: Container[str] | None) -> FastAPI:
        """What answers requests; `names` as `ApiServer.application` takes them."""
        reading = ReadingDoors(self._store, self.hub)
        rules = HouseRules(self._store, self.catalog)
        server = ApiServer(
            catalog=self.catalog,
            doorkeeper=doorkeeper,
            reading=reading,
            writing=WritingDoors(Writes(self._store, self.catalog, rules, self.now, judging=self._judging)),
            removing=RemovingDoors(self._store, reading, rules, lambda: write_time(self.now())),
            first_writes=FirstWrites(self._store, lambda: self._namespaces.made),
            work=self._work,
            now=self.now,
        )
        return server.application(health, names=names)

    async def start(self) -> None:
        """Take in what the store holds, and follow it from there."""
        self._establishment.read()
        self._garbage.read()
        self.hub.start()
        self._following = True
        # Nothing is awaited since the store was read: no change can fall between.
        self._store.watch(self._heed)
        for duty in self._duties:
            await duty.start()

    async def stop(self) -> None:
        """Follow no more; watches end, their clients go elsewhere, and bodies are not waited for. Idempotent."""
        self._following = False
        for duty in self._duties:
            await duty.stop()
        self.hub.stop()
        self._work.arrivals.stop()
        self._judging.stop()

    def _heed(self, changes: Sequence[Change]) -> None:
        if not self._following:
            return
        # The catalog first: who is woken by a new kind must find it.
        self._establishment.heed(changes)
        self._garbage.heed(changes)
        self.hub.feed(changes)
        for duty in self._duties:
            duty.heed(changes)

    def _kinds(self) -> Iterable[ResourceKind]:
        """Every kind once, in the version that is stored."""
        return {served.key: served.storage for served in self.catalog}.values()
