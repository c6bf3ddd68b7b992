"""Several backends as one: each channel and subscription is in the backend that its names say.

A backend that cannot be reached holds up only what is in it: its channels and subscriptions keep
their routing records, and their conditions say why nothing is changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from headrace.domain.backend_name import IN_MEMORY, JETSTREAM, KAFKA, backend_of
from headrace.domain.errors import HeadraceError
from headrace.domain.ports import Clock
from headrace.resources.broker_config import TopicConfig
from headrace.resources.control_ports import ClusterDescription, TopicAdmin
from headrace.resources.naming import NameAllocator
from headrace.resources.nats_jetstream_channel import BYTES_MAX as JETSTREAM_BYTES_MAX
from headrace.resources.ownership_record import OwnershipRecord
from headrace.resources.resource import Resource
from headrace_controller.in_memory_backend import InMemoryBackend, InMemoryDecisions
from headrace_controller.reconcile.backend import (
    Backend,
    BackendDecisions,
    ChannelResult,
    ObservedChannel,
)
from headrace_controller.reconcile.observed_state import ObservedState, StepFailure
from headrace_controller.reconcile.plan import BackendStep, Draft, ReconcileProblem, Step
from headrace_controller.topic_backend.backend import TopicBackend, TopicDecisions

NOT_CONFIGURED = {
    JETSTREAM: "no NATS server is configured; set HEADRACE_NATS_SERVERS for the controller, the"
    " ingress, the dispatcher and the sources service"
}


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A backend about which nothing is known, and why."""

    problem: ReconcileProblem


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed of one backend."""

    cluster: ClusterDescription
    facts: object


Observations = Mapping[str, Observation | Unavailable]
"""By backend: `ObservedState.backend` of several backends."""


class DecisionsByName:
    """See `BackendDecisions`."""

    def __init__(self, decisions: Mapping[str, BackendDecisions]) -> None:
        """`decisions` by backend."""
        self._decisions = decisions

    def prepare(self, observed: ObservedState, draft: Draft, *, record_bytes_max: int) -> None:
        """Each backend for itself."""
        for backend, view in observed.derived(_views).items():
            if isinstance(view, ObservedState):
                decisions = self._decisions[backend]
                decisions.prepare(view, draft, record_bytes_max=record_bytes_max)

    def claim_channel(
        self, owner: Resource, names: NameAllocator, *, topic: str, external: str | None
    ) -> OwnershipRecord:
        """In the backend of the preferred name."""
        decisions = self._decisions[backend_of(topic)]
        return decisions.claim_channel(owner, names, topic=topic, external=external)

    def ensure_channel(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        config: TopicConfig,
        draft: Draft,
    ) -> ChannelResult:
        """The channel, or why its backend cannot be used."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            return ChannelResult(problem=_waits(view, draft))
        return decisions.ensure_channel(view, owner, ownership, config, draft)

    def channel_of(
        self, observed: ObservedState, ownership: OwnershipRecord | None
    ) -> ObservedChannel | None:
        """The channel, if its backend can be reached."""
        if ownership is None:
            return None
        decisions, view = self._of(observed, ownership)
        return None if isinstance(view, Unavailable) else decisions.channel_of(view, ownership)

    def claim_subscription(
        self, owner: Resource, names: NameAllocator, *, group: str
    ) -> OwnershipRecord:
        """In the backend of the preferred name."""
        return self._decisions[backend_of(group)].claim_subscription(owner, names, group=group)

    def ensure_subscription(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        draft: Draft,
        *,
        record_bytes_max: int,
    ) -> ReconcileProblem | None:
        """What prevents it, or why the backend cannot be used."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            return _waits(view, draft)
        return decisions.ensure_subscription(
            view, owner, ownership, draft, record_bytes_max=record_bytes_max
        )

    def ensure_subscription_start(
        self,
        observed: ObservedState,
        owner: Resource,
        ownership: OwnershipRecord,
        channel: ObservedChannel,
        draft: Draft,
    ) -> ReconcileProblem | None:
        """What prevents it, or why the backend cannot be used."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            return _waits(view, draft)
        return decisions.ensure_subscription_start(view, owner, ownership, channel, draft)

    def reads_other_channel(self, ownership: OwnershipRecord, channel: ObservedChannel) -> bool:
        """As the backend of the subscription says."""
        return self._decisions[_backend_of(ownership)].reads_other_channel(ownership, channel)

    def forget_position(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """In the backend of the subscription."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            _waits(view, draft)
        else:
            decisions.forget_position(view, ownership, draft)

    def remaining_events(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> ReconcileProblem | None:
        """In the backend of the subscription; unknown, if it cannot be reached."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            return view.problem
        return decisions.remaining_events(view, ownership)

    def retire(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft, *, orphaned: bool
    ) -> None:
        """In the owner's backend; later, if it cannot be reached."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            _waits(view, draft)
        else:
            decisions.retire(view, ownership, draft, orphaned=orphaned)

    def purge_retired(
        self, observed: ObservedState, ownership: OwnershipRecord, draft: Draft
    ) -> None:
        """In the owner's backend; later, if it cannot be reached."""
        decisions, view = self._of(observed, ownership)
        if isinstance(view, Unavailable):
            _waits(view, draft)
        else:
            decisions.purge_retired(view, ownership, draft)

    def _of(
        self, observed: ObservedState, ownership: OwnershipRecord
    ) -> tuple[BackendDecisions, "ObservedState | Unavailable"]:
        backend = _backend_of(ownership)
        return self._decisions[backend], observed.derived(_views)[backend]


class BackendByName:
    """See `Backend`. What is in Kafka cannot be decided without Kafka; the other backends may be
    away, or not be configured.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        decisions: Mapping[str, BackendDecisions],
        log_unavailable: Callable[[str, str], None] = lambda _backend, _error: None,
    ) -> None:
        """`backends` are the configured ones, `decisions` those of all that are known.
        `log_unavailable` is called once when a backend can no longer be reached.
        """
        self._backends = backends
        self._known = tuple(decisions)
        self._log_unavailable = log_unavailable
        self._away: set[str] = set()
        self.decisions: BackendDecisions = DecisionsByName(decisions)

    @property
    def failed_steps(self) -> Mapping[str, StepFailure]:
        """As `Backend.failed_steps`."""
        return {
            name: failure
            for backend in self._backends.values()
            for name, failure in backend.failed_steps.items()
        }

    def reset(self) -> None:
        """As `Backend.reset`."""
        for backend in self._backends.values():
            backend.reset()

    async def observe(
        self, ownership_records: Mapping[str, OwnershipRecord]
    ) -> tuple[ClusterDescription, object]:
        """As `Backend.observe`. The cluster is the Kafka cluster."""
        records = _by_backend(ownership_records)
        names = list(self._backends)
        results = await asyncio.gather(
            *(self._backends[name].observe(records.get(name, {})) for name in names),
            return_exceptions=True,
        )
        observations: dict[str, Observation | Unavailable] = {
            name: Unavailable(ReconcileProblem("BackendNotConfigured", NOT_CONFIGURED[name]))
            for name in self._known
            if name not in self._backends
        }
        for name, result in zip(names, results, strict=True):
            if not isinstance(result, BaseException):
                observations[name] = Observation(*result)
                self._away.discard(name)
            elif name == KAFKA or not isinstance(result, HeadraceError):
                raise result
            else:
                observations[name] = self._unavailable(name, result)
        cluster = next(
            each.cluster
            for name, each in observations.items()
            if name == KAFKA and isinstance(each, Observation)
        )
        return cluster, observations

    async def observe_subscriptions(
        self, observed: ObservedState, subscriptions: Sequence[tuple[Resource, Resource | None]]
    ) -> object | None:
        """As `Backend.observe_subscriptions`."""
        wanted: dict[str, list[tuple[Resource, Resource | None]]] = {}
        for pair in subscriptions:
            ownership = observed.ownership_records.get(pair[0].uid)
            if ownership is not None:
                wanted.setdefault(_backend_of(ownership), []).append(pair)
        return await self._observe_each(
            observed,
            lambda name, view: self._backends[name].observe_subscriptions(
                view, wanted.get(name, [])
            ),
        )

    async def observe_backlogs(
        self, observed: ObservedState, ownership_records: Sequence[OwnershipRecord]
    ) -> object | None:
        """As `Backend.observe_backlogs`."""
        wanted: dict[str, list[OwnershipRecord]] = {}
        for ownership in ownership_records:
            wanted.setdefault(_backend_of(ownership), []).append(ownership)
        return await self._observe_each(
            observed,
            lambda name, view: self._backends[name].observe_backlogs(view, wanted.get(name, [])),
        )

    async def _observe_each(
        self,
        observed: ObservedState,
        observe: Callable[[str, ObservedState], Awaitable[object | None]],
    ) -> object | None:
        """Add to what was observed of each backend that can be reached; None if there is nothing to
        add.
        """
        observations, changed = dict(_observations(observed)), False
        for name, view in observed.derived(_views).items():
            found = observations[name]
            if not isinstance(view, ObservedState) or isinstance(found, Unavailable):
                continue
            try:
                facts = await observe(name, view)
            except HeadraceError as error:
                if name == KAFKA:
                    raise
                observations[name], changed = self._unavailable(name, error), True
                continue
            if facts is not None:
                observations[name], changed = Observation(found.cluster, facts), True
        return observations if changed else None

    async def create(self, steps: Sequence[Step]) -> None:
        """As `Backend.create`."""
        for name, backend in self._backends.items():
            await backend.create(_steps_of(name, steps))

    async def delete(self, steps: Sequence[Step]) -> None:
        """As `Backend.delete`."""
        for name, backend in self._backends.items():
            await backend.delete(_steps_of(name, steps))

    def _unavailable(self, backend: str, error: HeadraceError) -> Unavailable:
        if backend not in self._away:
            self._away.add(backend)
            self._log_unavailable(backend, str(error))
        return Unavailable(ReconcileProblem("BackendUnavailable", str(error), waiting=True))


def create_backend(
    kafka: TopicAdmin,
    clock: Clock,
    *,
    jetstream: TopicAdmin | None = None,
    log_unavailable: Callable[[str, str], None] = lambda _backend, _error: None,
) -> BackendByName:
    """The backends of a controller. `jetstream` is None if no NATS server is configured."""
    decisions: dict[str, BackendDecisions] = {
        KAFKA: TopicDecisions(),
        IN_MEMORY: InMemoryDecisions(),
        JETSTREAM: TopicDecisions(JETSTREAM, bytes_max=JETSTREAM_BYTES_MAX),
    }
    backends: dict[str, Backend] = {
        KAFKA: TopicBackend(kafka, clock, decisions[KAFKA]),
        IN_MEMORY: InMemoryBackend(),
    }
    if jetstream is not None:
        backends[JETSTREAM] = TopicBackend(jetstream, clock, decisions[JETSTREAM])
    return BackendByName(backends, decisions, log_unavailable)


def _backend_of(ownership: OwnershipRecord) -> str:
    return backend_of(ownership.group or ownership.topics[0].name)


def _by_backend(
    ownership_records: Mapping[str, OwnershipRecord],
) -> dict[str, dict[str, OwnershipRecord]]:
    found: dict[str, dict[str, OwnershipRecord]] = {}
    for uid, ownership in ownership_records.items():
        found.setdefault(_backend_of(ownership), {})[uid] = ownership
    return found


def _observations(observed: ObservedState) -> Observations:
    found = observed.backend
    if not isinstance(found, Mapping):
        raise TypeError(f"the observed state is not of several backends: {type(found).__name__}")
    return found


def _views(observed: ObservedState) -> Mapping[str, ObservedState | Unavailable]:
    """The state as each backend sees it."""
    records = _by_backend(observed.ownership_records)
    return {
        name: each
        if isinstance(each, Unavailable)
        else observed.restricted_to(records.get(name, {}), cluster=each.cluster, backend=each.facts)
        for name, each in _observations(observed).items()
    }


def _steps_of(backend: str, steps: Sequence[Step]) -> list[Step]:
    return [
        step
        for step in steps
        if isinstance(step, BackendStep) and backend_of(step.subject) == backend
    ]


def _waits(unavailable: Unavailable, draft: Draft) -> ReconcileProblem:
    if unavailable.problem.waiting:
        draft.wait(unavailable.problem.message)
    return unavailable.problem
