"""`headrace acls`: what each service may do in Kafka, as commands of `kafka-acls.sh`.

The table is the whole of it: `tests/integration/test_acls.py` runs an installation on a Kafka that
denies everything else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from headrace.domain.control_topics import (
    INSTANCES_TOPIC,
    RESOURCES_TOPIC,
    ROUTING_TOPIC,
    SOURCES_TOPIC,
)
from headrace.resources.naming import DELAY_GROUP
from headrace_cli.resource_output import (
    OutputFormat,
    print_document,
    refuse_object_outputs,
)
from headrace_cli.services import ServiceName
from headrace_cli.terminal import echo

BROKERS_AND_TRIGGERS = "knative-"
"""How the topics of Brokers and channels begin, and the groups of Triggers with their topics."""
SUBSCRIPTIONS = "kafka."
"""How the groups of Subscriptions begin, with their topics."""
RESOURCES_WRITER = f"{RESOURCES_TOPIC}.writer"
"""The transactional id with which one controller at a time writes resources."""
PLACEHOLDER = "{service}"


class ResourceType(StrEnum):
    """What an ACL is for, as `kafka-acls.sh` names it."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


class Pattern(StrEnum):
    """How the name of an ACL is compared."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


@dataclass(frozen=True, slots=True)
class Acl:
    """Operations that one service needs on the resources of one name or prefix."""

    service: ServiceName
    type: ResourceType
    name: str
    operations: Sequence[str]
    pattern: Pattern = Pattern.LITERAL

    def command(self, servers: str, principal: str) -> str:
        """Return the command that adds it."""
        operations = " ".join(f"--operation {each}" for each in self.operations)
        return (
            f"kafka-acls.sh --bootstrap-server {servers} --add"
            f" --allow-principal '{principal}' {operations}"
            f" --{self.type} '{self.name}' --resource-pattern-type {self.pattern}"
        )


def _acls() -> Iterator[Acl]:
    controller, ingress = ServiceName.CONTROLLER, ServiceName.INGRESS
    dispatcher, sources = ServiceName.DISPATCHER, ServiceName.SOURCES
    in_memory = ServiceName.IN_MEMORY
    topic, group, prefixed = ResourceType.TOPIC, ResourceType.GROUP, Pattern.PREFIXED
    created = ("Create", "Describe", "DescribeConfigs")
    for name in (ROUTING_TOPIC, RESOURCES_TOPIC):
        yield Acl(controller, topic, name, (*created, "Read", "Write"))
    yield Acl(controller, topic, INSTANCES_TOPIC, (*created, "Read"))
    yield Acl(controller, topic, SOURCES_TOPIC, created)
    # Delete is for the records whose delay is over.
    yield Acl(controller, topic, DELAY_GROUP, (*created, "Delete"), prefixed)
    # Read is for the offsets that are committed before a consumer starts.
    yield Acl(
        controller,
        topic,
        BROKERS_AND_TRIGGERS,
        (*created, "Alter", "AlterConfigs", "Delete", "Read"),
        prefixed,
    )
    yield Acl(controller, topic, SUBSCRIPTIONS, (*created, "AlterConfigs", "Delete"), prefixed)
    for prefix in (BROKERS_AND_TRIGGERS, SUBSCRIPTIONS):
        yield Acl(controller, group, prefix, ("Describe", "Read", "Delete"), prefixed)
    yield Acl(controller, group, DELAY_GROUP, ("Describe",))  # Its lag.
    yield Acl(controller, ResourceType.TRANSACTIONAL_ID, RESOURCES_WRITER, ("Describe", "Write"))
    for service in ServiceName:
        # The client library looks for the coordinator of this group; nothing joins it.
        yield Acl(service, group, f"headrace-{service}.follower", ("Describe",))
    for service in (ingress, dispatcher, sources, in_memory):
        yield Acl(service, topic, ROUTING_TOPIC, ("Describe", "Read"))
        yield Acl(service, topic, INSTANCES_TOPIC, ("Describe", "Write"))
    for service in (ingress, sources):
        yield Acl(service, topic, BROKERS_AND_TRIGGERS, ("Describe", "Write"), prefixed)
    for prefix in (BROKERS_AND_TRIGGERS, SUBSCRIPTIONS):
        yield Acl(dispatcher, topic, prefix, ("Describe", "Read", "Write"), prefixed)
        yield Acl(dispatcher, group, prefix, ("Describe", "Read"), prefixed)
    yield Acl(dispatcher, topic, DELAY_GROUP, ("Describe", "Read", "Write"), prefixed)
    yield Acl(dispatcher, group, DELAY_GROUP, ("Describe", "Read"))
    yield Acl(sources, topic, SOURCES_TOPIC, ("Describe", "Read", "Write"))
    yield Acl(sources, group, SOURCES_TOPIC, ("Describe", "Read"))


ACLS: Sequence[Acl] = tuple(_acls())
"""Every ACL of an installation whose names are the default ones."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("acls")(acls)


def acls(
    services: Annotated[
        list[ServiceName] | None, typer.Argument(help="The services; all by default.")
    ] = None,
    principal: Annotated[
        str,
        typer.Option("--principal", help=f"The principal of a service; {PLACEHOLDER} is its name."),
    ] = f"User:headrace-{PLACEHOLDER}",
    servers: Annotated[
        str, typer.Option("--bootstrap-server", help="Kafka, in the commands.")
    ] = "kafka:9092",
    output: Annotated[
        OutputFormat,
        typer.Option("--output", "-o", help="table (the commands), json or yaml."),
    ] = OutputFormat.TABLE,
) -> None:
    """Show the Kafka ACLs that each service needs, as commands of kafka-acls.sh.

    They are those of the default names. A topic template in `config-kafka-features` or an existing
    topic needs the same operations on its own name.
    """
    refuse_object_outputs(output)
    wanted = [each for each in ACLS if not services or each.service in services]
    if output is OutputFormat.TABLE:
        for each in wanted:
            echo(each.command(servers, principal.replace(PLACEHOLDER, each.service)))
        return
    items = [
        {
            "service": str(each.service),
            "principal": principal.replace(PLACEHOLDER, each.service),
            "resourceType": str(each.type),
            "name": each.name,
            "patternType": str(each.pattern),
            "operations": list(each.operations),
        }
        for each in wanted
    ]
    print_document({"items": items}, output)
