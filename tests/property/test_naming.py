"""Names are valid Kafka names, stay with their owner, and are never shared by two owners, whatever
the resources' names.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.domain.backend_name import BACKENDS, KAFKA, backend_of, without_backend
from headrace.resources.naming import (
    NAME_MAX,
    RESERVED,
    NameAllocator,
    SubscriptionNames,
    broker_topic,
    channel_topic,
    subscription_group,
    trigger_group,
)

LEGAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
# Few letters and the separators, which collide in practice, and sometimes arbitrary text of any
# length.
PART = (
    st.text(alphabet="ab-._", min_size=1, max_size=8)
    | st.sampled_from(["x.retry", "x.dead", "a" * 253, "b" * 180])
    | st.text(max_size=300)
)
OWNERS = st.lists(
    st.tuples(
        st.sampled_from(["broker", "trigger", "channel", "subscription"]),
        PART,
        PART,
        st.sampled_from(BACKENDS),
    ),
    max_size=25,
)


def _fold(name: str) -> str:
    return name.replace("_", ".")


def _claim(
    allocator: NameAllocator, kind: str, namespace: str, name: str, uid: str, backend: str
) -> tuple[str, ...]:
    """The distinct names of an owner; a retry group and a retry topic are one name of one owner."""
    if kind in ("broker", "channel"):
        preferred = (
            broker_topic(namespace, name)
            if kind == "broker"
            else channel_topic(namespace, name, backend)
        )
        return (allocator.allocate_topic(preferred, uid),)
    preferred = (
        trigger_group(namespace, name)
        if kind == "trigger"
        else subscription_group(namespace, name, uid, backend)
    )
    names = allocator.allocate_group(preferred, uid)
    assert f"{names.group}.retry" == names.retry_topic
    assert names.dead_topic.endswith(".dead")
    return (names.group, names.retry_topic, names.dead_topic)


@given(OWNERS)
@settings(max_examples=300)
def test_no_two_owners_share_a_name(owners: list[tuple[str, str, str, str]]) -> None:
    """All names of all owners differ, also if a dot and an underscore count as the same, as in
    Kafka.
    """
    allocator = NameAllocator({})
    names = [
        each
        for n, (kind, ns, name, backend) in enumerate(owners)
        for each in _claim(allocator, kind, ns, name, f"uid-{n}", backend)
    ]
    assert len(names) == len({_fold(name) for name in names})


@given(OWNERS)
@settings(max_examples=300)
def test_every_name_is_valid(owners: list[tuple[str, str, str, str]]) -> None:
    """At most 249 characters, after the prefix of the backend those of Kafka's alphabet, and never
    one of the installation's own names.
    """
    allocator = NameAllocator({})
    for n, (kind, namespace, name, backend) in enumerate(owners):
        for each in _claim(allocator, kind, namespace, name, f"uid-{n}", backend):
            assert 0 < len(each) <= NAME_MAX
            assert LEGAL.issuperset(without_backend(each))
            assert backend_of(each) == (backend if kind in ("channel", "subscription") else KAFKA)
            assert each not in RESERVED


@given(OWNERS)
@settings(max_examples=100)
def test_a_name_is_stable(owners: list[tuple[str, str, str, str]]) -> None:
    """Also after a restart, when only the names and their owners are known."""
    allocator = NameAllocator({})
    remembered: dict[str, str] = {}
    first = []
    for n, (kind, namespace, name, backend) in enumerate(owners):
        got = _claim(allocator, kind, namespace, name, f"uid-{n}", backend)
        first.append(got)
        remembered |= dict.fromkeys(got, f"uid-{n}")
    again = NameAllocator(remembered)
    assert first == [
        _claim(again, kind, ns, name, f"uid-{n}", backend)
        for n, (kind, ns, name, backend) in enumerate(owners)
    ]


def test_the_usual_names_are_those_of_the_knative_kafka_broker() -> None:
    """Without a collision the name is the interoperable one."""
    allocator = NameAllocator({})
    assert "knative-broker-shop-default" == allocator.allocate_topic(
        broker_topic("shop", "default"), "1"
    )
    group = "knative-trigger-shop-orders"
    assert SubscriptionNames(
        group=group, retry_topic=f"{group}.retry", dead_topic=f"{group}.dead"
    ) == allocator.allocate_group(trigger_group("shop", "orders"), "2")


def test_the_second_of_a_collision_gets_a_hash() -> None:
    """`a`/`b-c` and `a-b`/`c`, and a Trigger named like another's retry group."""
    allocator = NameAllocator({})
    first, second = (
        allocator.allocate_topic(broker_topic(*each), each[0])
        for each in (("a", "b-c"), ("a-b", "c"))
    )
    assert "knative-broker-a-b-c" == first
    assert second.startswith("knative-broker-a-b-c-")
    allocator.allocate_group(trigger_group("n", "x"), "3")
    assert (
        "knative-trigger-n-x.retry"
        != allocator.allocate_group(trigger_group("n", "x.retry"), "4").group
    )


def test_dead_letters_of_a_former_owner_keep_their_name() -> None:
    """The group is free again, the dead letter topic is not: only that one gets a hash."""
    allocator = NameAllocator({"g.dead": "old"})
    names = allocator.allocate_group("g", "new")
    assert ("g", "g.retry") == (names.group, names.retry_topic)
    assert "g.dead" != names.dead_topic
