"""The API put together: what follows the store, what works on it, and the application in front."""

from collections.abc import Container, Iterable, Sequence
from datetime import UTC, datetime

from fastapi import FastAPI

from headrace.domain.ports import Clock
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change, ResourceKind
from headrace.resources.timestamps import write_time
from headrace.runtime.health import Health
from headrace_apiserver.admission_plugins import AdmissionPlugins
from headrace_apiserver.admission_pool import AdmissionPool
from headrace_apiserver.authentication import Authenticator
from headrace_apiserver.controllers.control_loop import ControlLoop
from headrace_apiserver.controllers.crds import DefinitionController
from headrace_apiserver.controllers.event_recorder import create_event_recorder
from headrace_apiserver.controllers.garbage import GarbageCollector
from headrace_apiserver.controllers.namespaces import NamespaceController
from headrace_apiserver.handlers.delete import DeleteHandlers
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.handlers.write import WriteHandlers
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.max_in_flight import InFlightRequests
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.router import RequestRouter
from headrace_apiserver.startup_write_gate import StartupWriteGate
from headrace_apiserver.watch.cacher import Cacher

WATCHES_MAX = 1_000


class ApiServer:
    """All of the API but its socket. Start it after the store, which it is given started."""

    def __init__(self, store: ResourceStore, catalog: Catalog, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.catalog = catalog
        self.cacher = Cacher(lambda: store.resource_version, watches_max=WATCHES_MAX)
        self._definition_controller = DefinitionController(store, catalog, self.now)
        self._garbage = GarbageCollector(store, self._kinds, clock.monotonic)
        namespaces = self._namespaces = NamespaceController(store, self._kinds)
        self.recorder, events = create_event_recorder(store, self.now)
        self._control_loops = (
            ControlLoop(
                "definitions",
                store,
                self._definition_controller.reconcile,
                self._definition_controller.is_relevant,
            ),
            ControlLoop("namespaces", store, namespaces.reconcile, namespaces.is_relevant),
            ControlLoop("garbage", store, self._garbage.reconcile, self._garbage.is_relevant),
            events,
        )
        self._in_flight = InFlightRequests()
        self._admission_pool = AdmissionPool()
        self._following = False

    def now(self) -> datetime:
        """The time, for what clients are shown."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def application(
        self, health: Health, authenticator: Authenticator, *, names: Container[str] | None
    ) -> FastAPI:
        """What answers requests; `names` as `RequestRouter.application` takes them."""
        get_handlers = GetHandlers(self._store, self.cacher)
        plugins = AdmissionPlugins(self._store, self.catalog)
        server = RequestRouter(
            catalog=self.catalog,
            authenticator=authenticator,
            get_handlers=get_handlers,
            write_handlers=WriteHandlers(
                ObjectRegistry(
                    self._store,
                    self.catalog,
                    plugins,
                    self.now,
                    admission_pool=self._admission_pool,
                )
            ),
            delete_handlers=DeleteHandlers(
                self._store, get_handlers, plugins, lambda: write_time(self.now())
            ),
            startup_gate=StartupWriteGate(self._store, lambda: self._namespaces.initialised),
            in_flight=self._in_flight,
            now=self.now,
        )
        return server.application(health, names=names)

    async def start(self) -> None:
        """Take in what the store holds, and follow it from there."""
        self._definition_controller.read()
        self._garbage.read()
        self.cacher.start()
        self._following = True
        # Nothing is awaited since the store was read: no change can fall between.
        self._store.watch(self._on_changes)
        for control_loop in self._control_loops:
            await control_loop.start()

    async def stop(self) -> None:
        """Follow no more; watches end, their clients go elsewhere, and bodies are not waited for.
        Idempotent.
        """
        self._following = False
        for control_loop in self._control_loops:
            await control_loop.stop()
        self.cacher.stop()
        self._in_flight.pending_bodies.stop()
        self._admission_pool.stop()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if not self._following:
            return
        # The catalog first: who is woken by a new kind must find it.
        self._definition_controller.on_changes(changes)
        self._garbage.on_changes(changes)
        self.cacher.feed(changes)
        for control_loop in self._control_loops:
            control_loop.on_changes(changes)

    def _kinds(self) -> Iterable[ResourceKind]:
        """Every kind once, in the version that is stored."""
        return {served.key: served.storage for served in self.catalog}.values()
