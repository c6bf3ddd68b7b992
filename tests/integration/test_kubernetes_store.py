"""The store on a real API server in failure cases: missing permissions, kinds in two versions, a
Lease that cannot be renewed.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import yaml

from headrace.adapters.kubernetes import store as store_module
from headrace.adapters.kubernetes.client import connect
from headrace.adapters.kubernetes.election import RENEW_DEADLINE_SECONDS
from headrace.adapters.kubernetes.store import KubernetesResourceStore
from headrace.adapters.memory.clock import MemoryClock
from headrace.domain.errors import Permanent, Temporary
from headrace.domain.ports import Clock
from headrace.resources.kinds import BROKER, CONFIG_MAP, TRIGGER
from headrace.resources.resource import NamespaceTerminating, Reference, Resource
from headrace.runtime.clock import SystemClock
from tests.support.kubernetes import (
    CONTROLLER_TOKEN,
    CONTROLLER_USER,
    KubernetesUnderTest,
    sweep_handshakes,
)
from tests.support.wait_until import wait_until_async

Make = Callable[..., KubernetesResourceStore]


@pytest.fixture
async def make(kubernetes: KubernetesUnderTest) -> AsyncIterator[Make]:
    """Stores of the administrator, or of the controller's user, who has only the permissions that a
    test grants.
    """
    made: list[KubernetesResourceStore] = []

    def build(
        *,
        as_controller: bool = False,
        clock: Clock | None = None,
        namespaces: tuple[str, ...] = ("default",),
    ) -> KubernetesResourceStore:
        kubeconfig = (
            kubernetes.kubeconfig_of("limited", CONTROLLER_TOKEN)
            if as_controller
            else kubernetes.kubeconfig
        )
        store = KubernetesResourceStore(
            connect(kubeconfig),
            kinds=(BROKER, TRIGGER, CONFIG_MAP),
            clock=clock or SystemClock(),
            holder="test",
            lease_namespace="default",
            lease_name=f"lease-{secrets.token_hex(4)}",
            namespaces=("default",),
        )
        made.append(store)
        return store

    yield build
    for store in made:
        await store.stop()
    made.clear()
    sweep_handshakes()


async def test_resources_that_cannot_be_read_do_not_count_as_absent(
    make: Make, kubernetes: KubernetesUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that may not list Brokers does not start: it would treat everything that they own as
    orphaned.
    """
    monkeypatch.setattr(store_module, "SYNC_SECONDS", 3.0)
    bindings = ("headrace-controller", "headrace-addressable-resolver")
    kubernetes.kubectl("delete", "clusterrolebinding", *bindings, "--ignore-not-found")
    store = make(as_controller=True)
    with pytest.raises(
        Temporary,
        match=r"list (brokers|triggers)\.eventing\.knative\.dev: .*forbidden.*look at the Role",
    ):
        await store.start()
    assert store.epoch is None
    assert CONTROLLER_USER in str(store.last_error)


async def test_two_versions_of_a_kind_are_followed_once(
    make: Make, kubernetes: KubernetesUnderTest
) -> None:
    """A sink that is named in one version is found after the last reference to another version of
    its kind is gone.
    """
    source = {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "KafkaSource",
        "metadata": {"name": "two", "namespace": "default"},
        "spec": {
            "bootstrapServers": ["k:9092"],
            "topics": ["t"],
            "sink": {"uri": "http://sink.example/"},
        },
    }
    kubernetes.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(source))
    store = make()
    await store.start()
    old, new = (
        ("sources.knative.dev/v1beta1", "KafkaSource"),
        ("sources.knative.dev/v1", "KafkaSource"),
    )
    wanted = Reference(*new, "default", "two")
    store.track_kinds({old, new})
    await wait_until_async(lambda: store.find(wanted) is not None, 15, "the object to be found")
    store.track_kinds({new})
    await asyncio.sleep(0)
    assert store.find(wanted) is not None
    store.track_kinds(set())
    assert store.find(wanted) is None


async def test_a_kind_that_cannot_be_read_is_reported_with_the_missing_rule(
    make: Make, kubernetes: KubernetesUnderTest
) -> None:
    """When a resource refers to such a kind, the condition shows which rule to add."""
    kubernetes.kubectl(
        "delete",
        "clusterrolebinding",
        "headrace-controller",
        "headrace-addressable-resolver",
        "--ignore-not-found",
    )
    store = make(as_controller=True)
    pings = ("sources.knative.dev/v1", "PingSource")
    rule = (
        '{apiGroups: ["sources.knative.dev"], resources: [pingsources], verbs: [get, list, watch]}'
    )
    await wait_until_async(
        lambda: rule in store.track_kinds({pings}).get(pings, ""), 15, "the problem names the rule"
    )


async def test_a_terminating_namespace_is_not_a_question_of_rights(
    kubernetes: KubernetesUnderTest,
) -> None:
    """The server answers 403 in this case too; the message must not suggest that a role is
    missing.
    """
    namespace = f"going-{secrets.token_hex(4)}"
    kubernetes.kubectl("create", "namespace", namespace)
    kubernetes.kubectl(
        "delete", "namespace", namespace, "--wait=false"
    )  # Nothing completes its deletion.
    client = connect(kubernetes.kubeconfig)
    try:
        with pytest.raises(NamespaceTerminating, match="because it is being terminated"):
            await client.create(
                Resource(
                    CONFIG_MAP, {"metadata": {"name": "late", "namespace": namespace}, "data": {}}
                )
            )
    finally:
        await client.close()
        sweep_handshakes()


async def test_an_applied_object_that_does_not_fit_its_schema_is_refused_permanently(
    kubernetes: KubernetesUnderTest,
) -> None:
    """The server answers 500, which is no reason to reconcile nothing else until it works."""
    client = connect(kubernetes.kubeconfig)
    try:
        with pytest.raises(Permanent, match=r"\.data\.list: expected string"):
            await client.apply(
                Resource(
                    CONFIG_MAP,
                    {
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": "wrong", "namespace": "default"},
                        "data": {"list": ["a"]},
                    },
                )
            )
    finally:
        await client.close()
        sweep_handshakes()


async def test_a_leader_that_could_not_renew_stops(make: Make) -> None:
    """The term ends when its time is over, even if the Lease has not been checked since."""
    clock = MemoryClock()
    store = make(clock=clock)
    await store.start()
    await wait_until_async(lambda: store.epoch is not None, 15, "the store to lead")
    clock.advance(RENEW_DEADLINE_SECONDS + 0.1)
    assert store.epoch is None
    await wait_until_async(
        lambda: store.epoch is not None,
        15,
        "the store to lead again, in a term that it has renewed",
    )
