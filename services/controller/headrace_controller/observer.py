"""Observes what a reconcile decides on: resources, what the backend has of them, the routing table
and the live processes. This is the only expensive part of an iteration.
"""

from dataclasses import dataclass

import structlog

from headrace.domain.errors import HeadraceError, NotFound, Permanent
from headrace.domain.observed_event_types import ObservedEventType
from headrace.domain.ports import Clock, Instances, RoutingReader
from headrace.domain.routing import Route, route_key
from headrace.resources.control_ports import (
    ClusterDescription,
    ResourceStore,
)
from headrace.resources.kinds import OWNERSHIP_RECORD, STORE_IDENTITY
from headrace.resources.ownership_record import OwnershipRecord, read_ownership_record
from headrace.resources.resource import Resource, kind_of_reference
from headrace_controller.event_schema_reader import EventSchemaReader
from headrace_controller.plan_executor import PlanExecutor
from headrace_controller.reconcile.backend import Backend
from headrace_controller.reconcile.event_schemas import wanted_schemas
from headrace_controller.reconcile.observed_state import Installation, ObservedState
from headrace_controller.reconcile.references import NAMESPACE_KIND, SYSTEM_REFERENCES
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.reconcile.validation import ResourceValidator
from headrace_controller.source_reports import SourceReports
from headrace_controller.system_config import SystemConfigReader

logger = structlog.get_logger(__name__)

_REFRESH_SECONDS = 10.0
_TYPES_MAX = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserverPorts:
    """What the observed state is read from."""

    store: ResourceStore
    backend: Backend
    routing: RoutingReader
    instances: Instances
    clock: Clock


class Observer:
    """Looks at everything once per iteration, and remembers what need not be read again."""

    def __init__(
        self,
        installation: Installation,
        reconcilers: Reconcilers,
        ports: ObserverPorts,
        executor: PlanExecutor,
        schemas: EventSchemaReader,
    ) -> None:
        """`executor` knows the writes that have not come back through the routing log yet."""
        self._schemas = schemas
        self._schemas_version = schemas.version
        self._installation = installation
        self._reconcilers = reconcilers
        self._ports = ports
        self._store = ports.store
        self._backend = ports.backend
        self._executor = executor
        self._system_config = SystemConfigReader(ports.store.find)
        self._validator = ResourceValidator()
        self._source_reports = SourceReports(ports.clock)
        self._parsed_records: dict[str, tuple[Resource, OwnershipRecord]] = {}
        self._seen_types: set[ObservedEventType] = set()
        self._seen_processes: object = None
        self._term: int | None = None
        self._cluster = ClusterDescription("", 0)

    async def look(self) -> ObservedState:
        """The state as it is now."""
        epoch = self._store.epoch
        if epoch is None or epoch != self._term:
            await self._begin_term(epoch)
        self._seen_processes = self._processes()
        records = self._ownership_records()
        self._cluster, facts = await self._backend.observe(records)
        observed = self._observed_state(epoch or 0, records, facts)
        subscriptions = self._reconcilers.subscriptions(observed)
        more = await self._backend.observe_subscriptions(observed, subscriptions)
        if more is not None:
            observed = self._observed_state(epoch or 0, records, more)
        drained = self._reconcilers.drained(observed)
        owned = [records[each.uid] for each in drained if each.uid in records]
        more = await self._backend.observe_backlogs(observed, owned)
        if more is not None:
            observed = self._observed_state(epoch or 0, records, more)
        self._schemas_version = self._schemas.version
        observed.event_schemas.update(self._schemas.read(wanted_schemas(observed)))
        self._mark_types_seen(observed)
        return observed

    def has_process_changes(self) -> bool:
        """Whether processes have started or ended since the last look, or report something else of
        their subscriptions or of events; or a source was not taken over in time; or a schema was
        fetched, or is to be fetched again.
        """
        return (
            self._processes() != self._seen_processes
            or self._source_reports.is_due()
            or self._schemas.version != self._schemas_version
            or self._schemas.is_due()
        )

    def routes(self) -> dict[str, Route]:
        """The routing table by key, with the writes that have not come back through the log yet."""
        table = self._ports.routing.table
        known: list[Route] = [
            *table.addressables(),
            *table.subscriptions(),
            *table.all_delays(),
            *table.sources(),
            *(schema for each in table.schemas().values() for schema in each),
        ]
        routes = {route_key(each): each for each in known}
        for key, route in self._executor.written.items():
            if self._executor.positions[key] <= table.position:
                continue
            if route is None:
                routes.pop(key, None)
            else:
                routes[key] = route
        return routes

    def _processes(self) -> object:
        """The live processes and what they report of their subscriptions and sources. What they
        have applied is left out, because it changes with every record; so are event types that were
        seen at an earlier look, because a process reports its own again and again.
        """
        live = self._ports.instances.live()
        new = not self._seen_types.issuperset(seen for each in live for seen in each.types)
        return new, [
            (
                each.id,
                each.service,
                sorted(each.groups.items()),
                sorted(each.schema_faults.items()),
                dict(each.sources),
            )
            for each in sorted(live, key=lambda each: each.id)
        ]

    def _mark_types_seen(self, observed: ObservedState) -> None:
        if len(self._seen_types) > _TYPES_MAX:
            self._seen_types.clear()
        self._seen_types.update(seen for each in observed.instances for seen in each.types)

    async def _begin_term(self, epoch: int | None) -> None:
        """Read the routing table to its end, and drop what was remembered in an earlier term."""
        self._executor.reset()
        self._source_reports = SourceReports(self._ports.clock)
        if not await self._ports.routing.refresh(_REFRESH_SECONDS):
            logger.warning(
                "routing_table_not_read",
                seconds=_REFRESH_SECONDS,
                next_step="look at the Kafka brokers; the controller continues with what it has"
                " read",
            )
        await self._check_store_identity()
        self._term = epoch

    async def _check_store_identity(self) -> None:
        """Make sure that the topics in this Kafka belong to the resources of this store: those of
        other resources would look like topics whose owners are gone.

        Raises Permanent if they do not.
        """
        here = self._store.identity
        try:
            record = self._store.get(STORE_IDENTITY, "", "source")
        except NotFound:
            await self._store.create(store_identity_record(here))
            return
        found = str(record.spec.get("source"))
        if found == here:
            return
        if not self._installation.adopts_store:
            raise Permanent(
                f"the topics of this Kafka belong to the resources of {found}, but this controller"
                f" reads the resources of {here}: nothing is changed, because the topics would look"
                " like topics whose owners are gone. Choose another Kafka or cluster, or set"
                " HEADRACE_CONTROLLER_ADOPT_STORE=true"
            )
        logger.warning("store_adopted", before=found, now=here)
        await self._store.replace(store_identity_record(here))

    def _observed_state(
        self,
        epoch: int,
        ownership_records: dict[str, OwnershipRecord],
        facts: object,
    ) -> ObservedState:
        system, validation_errors = self._system_config.read(), dict[str, str]()
        resources = {
            each.kind: self._validator.default_and_validate(
                each, self._store.list(each.kind), system, validation_errors
            )
            for each in self._reconcilers
        }
        named = SYSTEM_REFERENCES | self._reconcilers.references(
            resources, in_cluster=self._installation.in_cluster
        )
        if self._installation.namespaces:
            # A controller that serves some namespaces only may not read what is in none.
            named = frozenset(each for each in named if each[:2] != NAMESPACE_KIND)
        workloads = self._reconcilers.workloads(resources) if self._installation.in_cluster else ()
        referenced = [found for each in named if (found := self._store.find(each)) is not None]
        for api_version, kind, namespace in workloads:
            referenced += self._store.list(kind_of_reference(api_version, kind), namespace)
        routes, instances = self.routes(), self._ports.instances.live()
        return ObservedState(
            installation=self._installation,
            now=self._ports.clock.now(),
            epoch=epoch,
            cluster=self._cluster,
            resources=resources,
            validation_errors=validation_errors,
            system=system,
            system_problems=dict(self._system_config.problems),
            referenced=referenced,
            unreadable=self._store.track_kinds(
                {
                    *((each.api_version, each.kind) for each in named),
                    *(workload[:2] for workload in workloads),
                }
            ),
            ownership_records=ownership_records,
            backend=facts,
            routes=routes,
            removed_routes=self._applied_removed_routes(),
            route_positions=dict(self._executor.positions),
            routes_end=self._ports.routing.table.position,
            instances=instances,
            source_reports=self._source_reports.merged(instances, routes),
            failed_steps=dict(self._executor.failed_steps),
        )

    def _ownership_records(self) -> dict[str, OwnershipRecord]:
        found: dict[str, tuple[Resource, OwnershipRecord]] = {}
        for record in self._store.list(OWNERSHIP_RECORD):
            known = self._parsed_records.get(record.name)
            try:
                found[record.name] = (
                    known
                    if known is not None and known[0] is record
                    else (record, read_ownership_record(record))
                )
            except (ValueError, KeyError, TypeError) as error:
                # Written by a newer version. Without its names, they could be given out twice.
                raise _unreadable_record(record, error) from error
        self._parsed_records = found
        return {name: ownership for name, (_, ownership) in found.items()}

    def _applied_removed_routes(self) -> dict[str, int]:
        """Removals that have come back through the log and were not overwritten since."""
        table, positions = self._ports.routing.table, self._executor.positions
        return {
            key: epoch
            for key, epoch in table.removed_routes.items()
            if positions.get(key, -1) <= table.position
        }


def store_identity_record(identity: str) -> Resource:
    """The record that says to which store the topics in this Kafka belong."""
    return Resource(
        STORE_IDENTITY,
        {
            "apiVersion": STORE_IDENTITY.api_version,
            "kind": STORE_IDENTITY.kind,
            "metadata": {"name": "source"},
            "spec": {"source": identity},
        },
    )


def _unreadable_record(record: Resource, error: Exception) -> HeadraceError:
    return HeadraceError(
        f"the ownership record {record.name} cannot be read ({error}); if a newer version of"
        " Headrace wrote it, run that version"
    )
