"""The only place where names in Kafka that belong to a resource are built. The data plane reads
these names from the routing table.

The forms are those of the Knative Kafka broker, so that topics can be moved between the two. They
are not injective (`a`/`b-c` and `a-b`/`c` give one topic) and Kafka's limit is 249 characters.
Therefore a name is *claimed*: it is allocated once, recorded with its owner's uid, and a second
owner gets a hash of its uid appended.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from headrace.domain.backend_name import (
    BACKENDS,
    KAFKA,
    backend_of,
    with_backend,
    without_backend,
)
from headrace.domain.control_topics import CONTROL_TOPICS

NAME_MAX = 249
"""Characters that Kafka allows in a topic name; group names have the same limit here."""

DELAY_GROUP = "headrace.delay"
DELAY_PARTITIONS = 4
DELAY_TIERS: tuple[tuple[str, int], ...] = (("10s", 10), ("1m", 60), ("10m", 600), ("1h", 3600))
"""Label and seconds of each delay topic, shortest first."""

RETRY_SUFFIX = ".retry"
DEAD_SUFFIX = ".dead"

_LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_HASH_CHARACTERS = 12


def broker_topic(namespace: str, name: str) -> str:
    """The preferred topic of a Broker."""
    return f"knative-broker-{namespace}-{name}"


def channel_topic(namespace: str, name: str, backend: str = KAFKA) -> str:
    """The preferred topic of a channel."""
    if backend == KAFKA:
        return f"knative-messaging-kafka.{namespace}.{name}"
    return with_backend(backend, f"channel.{namespace}.{name}")


def channel_service(name: str) -> str:
    """The Service whose DNS name is a channel's address in a cluster."""
    return f"{name}-kn-channel"


def channel_host(namespace: str, name: str, domain: str) -> str:
    """The host by which a channel is addressed: the DNS name of its Service in a cluster."""
    return f"{channel_service(name)}.{namespace}.svc.{domain}"


def broker_host(namespace: str, name: str, domain: str) -> str:
    """The host by which clients of Knative 0.5 reach a Broker: the DNS name of its Service then."""
    return f"{name}-broker.{namespace}.svc.{domain}"


def sink_host(namespace: str, name: str, domain: str) -> str:
    """The host by which a KafkaSink is addressed, beside its path."""
    return f"{name}-kafka-sink.{namespace}.svc.{domain}"


def trigger_group(namespace: str, name: str) -> str:
    """The preferred consumer group of a Trigger."""
    return f"knative-trigger-{namespace}-{name}"


def subscription_group(namespace: str, channel: str, uid: str, backend: str = KAFKA) -> str:
    """The preferred consumer group of a Subscription to a channel."""
    if backend == KAFKA:
        return f"kafka.{namespace}.{channel}.{uid}"
    return with_backend(backend, f"subscription.{namespace}.{channel}.{uid}")


def retry_group(group: str) -> str:
    """The group of a subscription's second consumer, which reads the retry topic of the
    same name.
    """
    return group + RETRY_SUFFIX


def delay_group(backend: str = KAFKA) -> str:
    """The group that reads the delay topics of a backend."""
    return with_backend(backend, DELAY_GROUP)


def delay_topic(label: str, backend: str = KAFKA) -> str:
    """The topic of one delay tier, by its label (`10s`)."""
    return f"{delay_group(backend)}.{label}"


RESERVED: frozenset[str] = frozenset(
    (*CONTROL_TOPICS, DELAY_GROUP, *(delay_topic(label) for label, _ in DELAY_TIERS))
)
"""Names that cannot be claimed."""


def reserved_message(topic: str) -> str:
    """What to do about a resource that asks for a topic of `RESERVED`."""
    return f"topic {topic} is one of Headrace's own; name another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionNames:
    """The names of one subscription: its group (and `<group>.retry`, the second consumer's group)
    and its two topics.
    """

    group: str
    retry_topic: str
    dead_topic: str


SUBSCRIPTION_ID_MAX = 255
"""Characters that Google Cloud Pub/Sub allows in the id of a subscription."""


def pubsub_subscription(namespace: str, name: str, uid: str) -> str:
    """The subscription of a source in Google Cloud Pub/Sub, as in Knative 0.5. The uid makes it
    unique; a long name is truncated.
    """
    head, tail = f"knative-eventing-{namespace}-", f"-{uid}"
    return f"{head}{name[: SUBSCRIPTION_ID_MAX - len(head) - len(tail)]}{tail}"


class NameAllocator:
    """Allocates names to owners. Kafka treats `a.b` and `a_b` as the same topic name, so the
    allocator does too.
    """

    def __init__(self, owners: Mapping[str, str]) -> None:
        """`owners` maps every allocated name to its owner's uid."""
        self._owners = {folded(name): uid for name, uid in owners.items()}

    def allocate_topic(self, preferred: str, uid: str) -> str:
        """Allocate the preferred name to `uid`, or that name with a hash; a repeated call returns
        the same name.
        """
        name = self._first_available(preferred, uid, suffixes=("",))
        self._owners[folded(name)] = uid
        return name

    def allocate_group(self, preferred: str, uid: str) -> SubscriptionNames:
        """Allocate a group with its topics to `uid`.

        `<group>.dead` outlives its subscription: if an earlier one's still exists, only that name
        gets the hash, so that the group keeps the name that other tools look for and the two sets
        of dead letters stay separate.
        """
        group = self._first_available(
            preferred, uid, suffixes=("", RETRY_SUFFIX), room=len(RETRY_SUFFIX)
        )
        retry = retry_group(group)
        dead = self._first_available(group, uid, suffixes=(DEAD_SUFFIX,)) + DEAD_SUFFIX
        self._owners.update((folded(name), uid) for name in (group, retry, dead))
        return SubscriptionNames(group=group, retry_topic=retry, dead_topic=dead)

    def _first_available(
        self, preferred: str, uid: str, *, suffixes: Sequence[str], room: int = 0
    ) -> str:
        room = max(room, *(len(suffix) for suffix in suffixes))
        for candidate in _candidates(preferred, uid, NAME_MAX - room):
            if all(self._is_available(candidate + suffix, uid) for suffix in suffixes):
                return candidate
        raise AssertionError("the candidates never end")

    def _is_available(self, name: str, uid: str) -> bool:
        return name not in RESERVED and self._owners.get(folded(name), uid) == uid


def _candidates(preferred: str, uid: str, length_max: int) -> Iterator[str]:
    """Names of at most `length_max` characters, in the backend of the preferred one."""
    backend = KAFKA
    if backend_of(preferred) in BACKENDS:
        backend, preferred = backend_of(preferred), without_backend(preferred)
    length_max -= len(with_backend(backend, ""))
    for candidate in _local_candidates(preferred, uid, length_max):
        yield with_backend(backend, candidate)


def _local_candidates(preferred: str, uid: str, length_max: int) -> Iterator[str]:
    legal = "".join(character if character in _LEGAL else "-" for character in preferred)
    if legal == preferred and len(preferred) <= length_max and preferred not in ("", ".", ".."):
        yield preferred
    turn = 0
    while True:
        # The preferred text is part of the hash: two names of one owner may be truncated to the
        # same first characters.
        digest = sha256(f"{uid}/{preferred}/{turn}".encode("utf-8", "surrogatepass")).hexdigest()[
            :_HASH_CHARACTERS
        ]
        yield f"{legal[: length_max - _HASH_CHARACTERS - 1]}-{digest}"
        turn += 1


def folded(name: str) -> str:
    """The name as Kafka compares it with others: it treats `a.b` and `a_b` as the same."""
    return name.replace("_", ".")
