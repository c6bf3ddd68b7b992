"""`headrace dead-letters`: shows the content of the dead letter topic of a subscription, and the
reasons. Reads Kafka directly and does not change it.

The command asks the controller's API only for the name of the topic, and a running `headrace up`
for the address of its Kafka.

Exit codes: 0 success, also if there are no dead letters; 1 no such Trigger or Subscription, event
or topic, or no response; 2 invalid command line.
"""

import json
import os
from contextlib import closing
from typing import Annotated, NoReturn

import typer

from headrace.adapters.kafka.tail import KafkaTail
from headrace.domain.backend_name import KAFKA, backend_of
from headrace.domain.errors import HeadraceError, LogUnavailable, TopicMissing
from headrace.resources.naming import DEAD_SUFFIX
from headrace.runtime.loading import load
from headrace.runtime.probe import probe
from headrace.runtime.settings import BadSettings, KafkaSettings
from headrace.runtime.sockets import MANAGEMENT_PORT
from headrace_cli.client import SERVER, ApiClient, ApiFailure
from headrace_cli.dead_letter_output import (
    print_dead_letter,
    print_dead_letters,
    print_topics,
)
from headrace_cli.dead_letter_view import DeadLetterView, of_id, summary, without_originals
from headrace_cli.resources import Authority, Namespace, Server, TokenFile, connect
from headrace_cli.terminal import ResultFormat, echo

NOT_THERE, UNUSABLE = 1, 2
SECONDS = 30.0
SHOWN_MAX = 10_000
SEARCHED_AT_ONCE = 500
GROUP_ANNOTATION = "group.id"
_WITH_DEAD_LETTERS = frozenset({"Trigger", "Subscription"})
_OPTION = "--bootstrap-servers or KAFKA_BOOTSTRAP_SERVERS"
_ANOTHER = f"if the services use another Kafka, name it with {_OPTION}"

SubscriptionName = Annotated[
    str | None,
    typer.Argument(
        metavar="[[KIND/]NAME]",
        help=(
            "Whose dead letters to show: a Trigger, or subscription/NAME; default: list the topics"
            " that have any."
        ),
    ),
]
Topic = Annotated[
    str | None,
    typer.Option("--topic", help="Topic to read, for example of a deleted Trigger."),
]
EventId = Annotated[
    str | None,
    typer.Option("--show", metavar="ID", help="Show all details of the event with this id."),
]
Limit = Annotated[
    int,
    typer.Option(
        "--limit",
        "-l",
        min=1,
        max=SHOWN_MAX,
        help="Maximum number to show, newest first.",
    ),
]
Output = Annotated[
    ResultFormat,
    typer.Option("--output", "-o", help="Output format; json: one object per line."),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        help=(
            "Kafka brokers; default: KAFKA_BOOTSTRAP_SERVERS, else those of a local"
            " `headrace up`, else 127.0.0.1:9092."
        ),
    ),
]
ManagementPort = Annotated[
    int, typer.Option("--management-port", min=1, max=65_535, help="Port of `headrace up`.")
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("dead-letters")(dead_letters)


def dead_letters(
    name: SubscriptionName = None,
    *,
    namespace: Namespace = "default",
    topic: Topic = None,
    show: EventId = None,
    limit: Limit = 20,
    output: Output = ResultFormat.TABLE,
    bootstrap_servers: BootstrapServers = None,
    management_port: ManagementPort = MANAGEMENT_PORT,
    server: Server = SERVER,
    token_file: TokenFile = None,
    certificate_authority: Authority = None,
) -> None:
    """Show the events that could not be delivered, and why. Does not remove them."""
    if name is not None and topic is not None:
        _fail("give a name or a --topic, not both", UNUSABLE)
    if show is not None and name is None and topic is None:
        _fail("--show needs to know where to look: give the name, or a --topic", UNUSABLE)
    try:
        kafka = load(
            KafkaSettings, bootstrap_servers=bootstrap_servers or _running_kafka(management_port)
        )
        if name is not None:
            client = connect(server, token_file, certificate_authority)
            topic = _topic_of(client, namespace, name)
        with closing(KafkaTail(kafka.options("headrace-cli"), seconds=SECONDS)) as tail:
            if topic is None:
                _list_topics(tail, kafka.bootstrap_servers, output)
            elif show is not None:
                print_dead_letter(_found(tail, topic, show), output)
            else:
                _list(tail, topic, limit, output)
    except BadSettings as error:
        _fail(str(error), UNUSABLE)
    except LogUnavailable as error:
        _fail(
            f"{error}; start Headrace (headrace up), or name the Kafka of the services with"
            f" {_OPTION}",
            NOT_THERE,
        )
    except TopicMissing as error:
        _fail(f"{error} at {kafka.bootstrap_servers}; {_ANOTHER}", NOT_THERE)
    except (HeadraceError, ApiFailure) as error:
        _fail(str(error), NOT_THERE)


def _running_kafka(management_port: int) -> str | None:
    """Return the address of the Kafka of a `headrace up` on this machine, or None if none answers
    or an environment variable names a Kafka.
    """
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or os.environ.get(
        "HEADRACE_KAFKA_BOOTSTRAP_SERVERS"
    ):
        return None
    healthy, page = probe(f"http://127.0.0.1:{management_port}/version")
    try:
        found = json.loads(page).get("kafka") if healthy else None
    except (ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _topic_of(client: ApiClient, namespace: str, wanted: str) -> str:
    """Return the name of the dead letter topic of a Trigger, or of `KIND/NAME`. Raises
    ApiFailure.
    """
    named, _, name = wanted.rpartition("/")
    kind = client.kind_called(named or "triggers.eventing.knative.dev")
    if kind.kind not in _WITH_DEAD_LETTERS:
        raise ApiFailure(
            f"a {kind.kind} has no dead letters: they belong to a Trigger or a Subscription."
            " `headrace dead-letters` lists the topics that have any"
        )
    found = client.get(kind, namespace, name)
    if found is None:
        if not named and _is_subscription(client, namespace, name):
            raise ApiFailure(
                f"no Trigger {namespace}/{name}, but a Subscription: `headrace dead-letters"
                f" subscription/{name} -n {namespace}`"
            )
        raise ApiFailure(
            f"no {kind.kind} {namespace}/{name}; `headrace get {kind.plural} -A` shows them all,"
            " and --topic reads what a deleted one left behind"
        )
    status = found.get("status")
    annotations = status.get("annotations") if isinstance(status, dict) else None
    group = annotations.get(GROUP_ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(group, str):
        raise ApiFailure(
            f"{kind.kind} {namespace}/{name} has no topics yet; `headrace get {kind.plural} {name}"
            f" -n {namespace}` says why"
        )
    if backend_of(group) != KAFKA:
        raise ApiFailure(
            f"the dead letters of {kind.kind} {namespace}/{name} are in the backend"
            f" {backend_of(group)}, which this command cannot read; set a dead letter sink to"
            " receive them"
        )
    return f"{group}{DEAD_SUFFIX}"


def _is_subscription(client: ApiClient, namespace: str, name: str) -> bool:
    kind = client.kind_in_group("messaging.knative.dev", "Subscription")
    return kind is not None and client.get(kind, namespace, name) is not None


def _list_topics(tail: KafkaTail, servers: str, output: ResultFormat) -> None:
    counts = tail.record_counts(DEAD_SUFFIX)
    if counts:
        print_topics(counts, output)
    else:
        # As on a Kafka that no Headrace uses; every Trigger has a topic.
        echo(f"no dead letter topics at {servers}; {_ANOTHER}", err=True)


def _list(tail: KafkaTail, topic: str, limit: int, output: ResultFormat) -> None:
    total = sum(end - first for first, end in tail.watermarks(topic).values())
    newest: list[DeadLetterView] = []
    for window in tail.read_newest_first(topic, limit, summary):
        newest = without_originals([*newest, *window])[:limit]
        if len(newest) == limit:
            break
    print_dead_letters(newest, output)
    if output is ResultFormat.TABLE:
        echo(
            f"{len(newest)} of {total} records in {topic}"
            + ("; more with --limit" if len(newest) == limit < total else ""),
            err=True,
        )


def _found(tail: KafkaTail, topic: str, event_id: str) -> DeadLetterView:
    """Return the newest dead letter with this id. Raises ApiFailure if there is none."""
    for window in tail.read_newest_first(topic, SEARCHED_AT_ONCE, of_id(event_id)):
        if window:
            return window[0]
    raise ApiFailure(f"no event with the id {event_id!r} in {topic}")


def _fail(message: str, code: int) -> NoReturn:
    echo(f"headrace dead-letters: {message}", err=True)
    raise typer.Exit(code)
