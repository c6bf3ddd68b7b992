"""The ledger run's resources: Brokers, Triggers with their good and bad subscribers, writers, and
what each Trigger must receive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.checker import Expectation, Generation
from tests.support.ledger import TYPES
from tests.support.manifests import ORDERED, Manifest, broker, broker_config, delivery, trigger
from tests.support.sink_process import SinkProcess
from tests.support.sink_scripts import Mode, Script

NAMESPACE, TENANT = "chaos", "tenant"
PARTITIONS = 10
ALL = frozenset(TYPES)
A, B, C = (frozenset({each}) for each in TYPES)
POISON = {"50:7": 400, "50:23": 500}
"""Events that one subscriber never accepts: the first rule's answers are final, the second's are
retried.
"""

PERSISTENT = tuple(f"w{number:02}" for number in range(10))
HASTY = ("n00", "n01")
TENANTS = ("t00", "t01")
PROBES = {NAMESPACE: "p-chaos", TENANT: "p-tenant"}
OWN = frozenset({*PERSISTENT, *HASTY, PROBES[NAMESPACE]})
FIRST, SECOND, THIRD = (frozenset({each}) for each in PERSISTENT[:3])
"""Bad subscribers get one writer's events: the machine must not be the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One Trigger, its subscriber's script, and what it must receive."""

    name: str
    namespace: str = NAMESPACE
    types: frozenset[str] = ALL
    writers: frozenset[str] = OWN
    filters: Sequence[Mapping[str, Any]] | None = None
    delivery: Mapping[str, Any] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    healed: Script | None = None
    """Its subscriber's script after the time at which bad ones become good; None leaves it
    unchanged.
    """
    sink: str = ""
    """Dead letter sink, by name."""
    steady: bool = False
    retry: int = 10
    delay_seconds: float = 0.2
    timeout_seconds: float = 30.0

    @property
    def ordered(self) -> bool:
        """Whether ordered delivery is configured."""
        return bool(self.annotations)

    def manifest(
        self, sinks: SinkProcess, *, filters: Sequence[Mapping[str, Any]] | None = None
    ) -> Manifest:
        """The Trigger's manifest; `filters` in place of its own."""
        block = dict(self.delivery or {})
        if self.sink:
            block["deadLetterSink"] = {"uri": sinks.url(self.sink)}
        return trigger(
            self.namespace,
            self.name,
            sinks.url(self.name),
            filters=filters or self.filters,
            delivery=block or None,
            annotations=self.annotations,
        )

    def expectation(self, generations: Sequence[Generation] = ()) -> Expectation:
        """The expectation for the checker."""
        return Expectation(
            name=self.name,
            generations=tuple(generations) or (Generation(self.types),),
            ordered=self.ordered,
            retry=self.retry,
            delay_seconds=self.delay_seconds,
            timeout_seconds=self.timeout_seconds,
            steady=self.steady,
            writers=self.writers,
        )


def only(writer: frozenset[str], *more: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Filters that take one writer's original events."""
    return [{"exact": {"partitionkey": min(writer)}}, {"prefix": {"type": "ledger."}}, *more]


BRIEF = delivery(retry=1, delay="PT0.3S", timeout="PT1S")
"""One retry, after a delay that a sink can measure even though it notices the end of a connection
only when it gets CPU time.
"""
NARROW = ({"exact": {"type": TYPES[0]}},)
WIDE = ({"any": [{"exact": {"type": TYPES[0]}}, {"exact": {"type": TYPES[1]}}]},)

ROLES = (
    Role(name="all", filters=[{"prefix": {"type": "ledger."}}], steady=True),
    Role(
        name="ordered",
        types=A | B,
        filters=[{"cesql": "type IN ('ledger.a', 'ledger.b')"}],
        annotations=ORDERED,
        script=Script(delay_seconds=0.003),
        steady=True,
    ),
    Role(name="narrow", types=A, filters=NARROW),
    Role(
        name="slow",
        types=C,
        filters=[{"exact": {"type": TYPES[2]}}],
        script=Script(delay_seconds=0.1),
    ),
    Role(name="storm", types=B, filters=[{"suffix": {"type": ".b"}}]),
    Role(
        name="poison",
        filters=[{"not": {"prefix": {"type": "reply."}}}],
        delivery=delivery(retry=2, delay="PT0.1S"),
        script=Script(poison=POISON),
        sink="dls-poison",
        retry=2,
        delay_seconds=0.1,
    ),
    Role(
        name="hang",
        writers=FIRST,
        filters=only(FIRST),
        delivery=BRIEF,
        script=Script(mode=Mode.HANG),
        healed=Script(),
        retry=1,
        delay_seconds=0.3,
        timeout_seconds=1.0,
    ),
    Role(
        name="drip",
        writers=FIRST,
        filters=only(FIRST),
        delivery=BRIEF,
        script=Script(mode=Mode.DRIP),
        healed=Script(),
        retry=1,
        delay_seconds=0.3,
        timeout_seconds=1.0,
    ),
    Role(
        name="reset",
        writers=SECOND,
        filters=only(SECOND),
        delivery=BRIEF,
        script=Script(mode=Mode.RESET),
        healed=Script(),
        retry=1,
        delay_seconds=0.3,
        timeout_seconds=1.0,
    ),
    Role(
        name="bomb",
        writers=SECOND,
        filters=only(SECOND),
        delivery=BRIEF,
        script=Script(mode=Mode.BOMB),
        retry=1,
        delay_seconds=0.3,
        timeout_seconds=1.0,
    ),
    Role(name="redirect", writers=SECOND, filters=only(SECOND), script=Script(status=307)),
    Role(
        name="patience",
        writers=THIRD,
        filters=only(THIRD),
        delivery=delivery(retry=3, delay="PT0.2S"),
        script=Script(
            failures=1, failures_every=4, failure_status=429, headers={"Retry-After": "1"}
        ),
        retry=3,
    ),
    Role(
        name="replying",
        types=A,
        writers=THIRD,
        filters=only(THIRD, {"exact": {"type": TYPES[0]}}),
        script=Script(mode=Mode.REPLY, reply_type="reply.a"),
    ),
    Role(name="replies", types=A, writers=THIRD, filters=[{"exact": {"type": "reply.a"}}]),
    Role(
        name="tenant", namespace=TENANT, writers=frozenset({*TENANTS, PROBES[TENANT]}), steady=True
    ),
)
BY_NAME = {role.name: role for role in ROLES}
TRAP = Expectation(name="trap", generations=(Generation(ALL),), writers=frozenset(), steady=False)
"""Target of the redirect: no request may ever reach it."""


def poisoned(counter: int) -> bool:
    """Whether the poison subscriber refuses the event of this counter."""
    return Script(poison=POISON).poisoned(counter) is not None


DEAD_LETTERS = Expectation(
    name="dls-poison", generations=(Generation(ALL),), writers=OWN, counters=poisoned, steady=False
)
"""What the dead letter sink of the poison Trigger must receive."""


def foundation() -> list[Manifest]:
    """Brokers and their configuration."""
    manifests: list[Manifest] = []
    for namespace in (NAMESPACE, TENANT):
        manifests += [
            broker_config(namespace, "topics", partitions=PARTITIONS),
            broker(namespace, config="topics"),
        ]
    return manifests


def configure_sinks(sinks: SinkProcess) -> None:
    """Send every sink its script."""
    for role in ROLES:
        script = role.script
        if script.status == 307:
            script = Script(status=307, headers={"Location": sinks.url(TRAP.name)})
        sinks.script(role.name, script)


def heal(sinks: SinkProcess) -> None:
    """Make the bad sinks good again, if they have such a script."""
    for role in ROLES:
        if role.healed:
            sinks.script(role.name, role.healed)
