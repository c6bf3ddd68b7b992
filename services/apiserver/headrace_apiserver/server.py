"""The API server: what follows the store, and the application in front of it."""

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime

from fastapi import FastAPI

from headrace.domain.ports import Clock
from headrace.resources.control_ports import ResourceStore
from headrace.resources.resource import Change, ResourceKind
from headrace.runtime.health import Health
from headrace_apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from headrace_apiserver.admission.plugin import AdmissionChain, AdmissionPlugin
from headrace_apiserver.admission.pool import AdmissionPool
from headrace_apiserver.admission.protected_definitions import ProtectedDefinitions
from headrace_apiserver.admission.secret_data import SecretData
from headrace_apiserver.admission.unreconciled_kinds import UnreconciledKinds
from headrace_apiserver.authentication import Authenticator
from headrace_apiserver.controllers.control_loop import ControlLoop
from headrace_apiserver.controllers.crds import CustomResourceDefinitionController
from headrace_apiserver.controllers.event_recorder import create_event_recorder
from headrace_apiserver.controllers.garbage_collector import GarbageCollector
from headrace_apiserver.controllers.namespaces import INITIAL, NamespaceController
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.max_in_flight import InFlightRequests
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.router import RequestRouter
from headrace_apiserver.startup_write_gate import StartupWriteGate
from headrace_apiserver.strategy import Strategies
from headrace_apiserver.watch.cacher import Cacher

WATCHES_MAX = 1_000


class ApiServer:
    """The API server without its socket. Start it after the store."""

    def __init__(
        self,
        store: ResourceStore,
        catalog: Catalog,
        clock: Clock,
        *,
        strategies: Callable[[], Strategies] = dict,
        plugins: Iterable[AdmissionPlugin] = (),
        namespaces: Iterable[str] = (),
    ) -> None:
        """`strategies` returns the rules of kinds in force, `plugins` follow the built-in admission
        plugins, `namespaces` are created besides those of every cluster.
        """
        self._store = store
        self._clock = clock
        self._strategies = strategies
        self.catalog = catalog
        self.cacher = Cacher(lambda: store.resource_version, watches_max=WATCHES_MAX)
        self._definitions = CustomResourceDefinitionController(store, catalog, self.now)
        self._garbage = GarbageCollector(store, self._kinds, clock.monotonic)
        self._namespaces = NamespaceController(store, self._kinds, INITIAL.union(namespaces))
        self._plugins = AdmissionChain(
            (
                NamespaceLifecycle(store, self._namespaces.initial),
                ProtectedDefinitions(store, catalog),
                UnreconciledKinds(catalog),
                SecretData(),
                *plugins,
            )
        )
        self.recorder, events = create_event_recorder(store, self.now)
        self._control_loops = (
            _control_loop("customresourcedefinition-controller", store, self._definitions),
            _control_loop("namespace-controller", store, self._namespaces),
            _control_loop("garbage-collector-controller", store, self._garbage),
            events,
        )
        self._in_flight = InFlightRequests()
        self._admission_pool = AdmissionPool()
        self._following = False

    def now(self) -> datetime:
        """The present time, as clients are shown it."""
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def application(
        self, health: Health, authenticator: Authenticator, *, names: Container[str] | None
    ) -> FastAPI:
        """The ASGI application; `names` as for `RequestRouter.application`."""
        router = RequestRouter(
            catalog=self.catalog,
            authenticator=authenticator,
            get_handlers=GetHandlers(self._store, self.cacher),
            registry=ObjectRegistry(
                self._store,
                self.catalog,
                self._plugins,
                self.now,
                strategies=self._strategies,
                admission_pool=self._admission_pool,
            ),
            startup_gate=StartupWriteGate(self._store, lambda: self._namespaces.initialised),
            in_flight=self._in_flight,
            now=self.now,
        )
        return router.application(health, names=names)

    async def start(self) -> None:
        """Read the store and follow it from there."""
        self._definitions.read()
        self._garbage.read()
        self.cacher.start()
        self._following = True
        # No await since the store was read: no change is missed in between.
        self._store.watch(self._on_changes)
        for control_loop in self._control_loops:
            await control_loop.start()

    async def stop(self) -> None:
        """Stop following the store, end all watches, and wait for no more bodies. Idempotent."""
        self._following = False
        for control_loop in self._control_loops:
            await control_loop.stop()
        self.cacher.stop()
        self._in_flight.pending_bodies.stop()
        self._admission_pool.stop()

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if not self._following:
            return
        # The catalog first: a controller that is notified of a new kind must find it there.
        self._definitions.on_changes(changes)
        self._garbage.on_changes(changes)
        self.cacher.feed(changes)
        for control_loop in self._control_loops:
            control_loop.on_changes(changes)

    def _kinds(self) -> Iterable[ResourceKind]:
        """Every kind once, in the version that is stored."""
        return {served.key: served.storage for served in self.catalog}.values()


def _control_loop(
    name: str,
    store: ResourceStore,
    controller: CustomResourceDefinitionController | NamespaceController | GarbageCollector,
) -> ControlLoop:
    return ControlLoop(name, store, controller.reconcile, controller.is_relevant)
