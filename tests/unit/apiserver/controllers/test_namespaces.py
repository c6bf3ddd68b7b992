"""Namespaces of an installation: initial ones, those that are created for existing resources, and
deletion with all contents.
"""

import pytest

from headrace.resources.kinds import BROKER, CONFIG_MAP
from headrace_apiserver.controllers.namespaces import (
    CONTENT_FINALIZER,
    INITIAL,
    NAMESPACE,
    NamespaceController,
    namespace_of,
    with_phase,
)
from tests.unit.apiserver.store_follower import StoreFollower

KINDS = (NAMESPACE, CONFIG_MAP, BROKER)


@pytest.fixture
async def harness() -> StoreFollower:
    """A store."""
    return await StoreFollower().start()


async def test_initial_namespaces_and_those_in_use_are_created_once_a_term(
    harness: StoreFollower,
) -> None:
    """Also for resources stored before namespaces existed; one that a user deletes later is not
    recreated.
    """
    await harness.make("old", namespace="shop")
    namespaces = NamespaceController(harness.store, lambda: KINDS)
    await namespaces.reconcile()
    assert sorted((*INITIAL, "shop")) == harness.names(NAMESPACE)
    await harness.store.delete(NAMESPACE, "", "kube-public")
    await namespaces.reconcile()
    assert "kube-public" not in harness.names(NAMESPACE)


async def test_a_namespace_is_emptied_before_it_is_removed(harness: StoreFollower) -> None:
    """Terminating; its contents are deleted; objects with finalizers are waited for; then it is
    removed.
    """
    namespaces = NamespaceController(harness.store, lambda: KINDS)
    await namespaces.reconcile()
    await harness.store.create(namespace_of("shop"))
    await harness.make("plain", namespace="shop")
    await harness.make("held", kind=BROKER, namespace="shop", finalizers=["other"])
    await harness.make("elsewhere")
    await harness.store.delete(NAMESPACE, "", "shop", finalizers=(CONTENT_FINALIZER,))
    for _ in range(3):
        assert await namespaces.reconcile() is not None
    assert {"phase": "Terminating"} == harness.store.get(NAMESPACE, "", "shop").object["status"]
    held = harness.store.get(BROKER, "shop", "held")
    assert ([], True) == (harness.names(CONFIG_MAP, "shop"), held.deleting)
    await harness.store.replace(held.with_metadata(finalizers=None))
    assert await namespaces.reconcile() is None
    assert "shop" not in harness.names(NAMESPACE)
    assert ["elsewhere"] == harness.names(CONFIG_MAP)


async def test_a_namespace_with_another_finalizer_stays(harness: StoreFollower) -> None:
    """It is empty, but another controller has to clean up too."""
    namespaces = NamespaceController(harness.store, lambda: KINDS)
    made = await harness.store.create(namespace_of("shop"))
    await harness.store.replace(made.with_metadata(finalizers=["other"]))
    await harness.store.delete(NAMESPACE, "", "shop", finalizers=(CONTENT_FINALIZER,))
    await namespaces.reconcile()
    await namespaces.reconcile()
    assert ("other",) == harness.store.get(NAMESPACE, "", "shop").finalizers


def test_a_namespace_has_its_label_and_phase() -> None:
    """Whatever is sent: selectors by name rely on the label."""
    made = with_phase(
        {"metadata": {"name": "shop", "labels": {"a": "b"}}, "status": {"phase": "Odd"}}, None
    )
    assert {"a": "b", "kubernetes.io/metadata.name": "shop"} == made["metadata"]["labels"]
    assert "Active" == made["status"]["phase"]


async def test_relevant_changes(harness: StoreFollower) -> None:
    """Changes of namespaces, and deletions within a namespace; nothing else wakes the
    controller.
    """
    namespaces = NamespaceController(harness.store, lambda: KINDS)
    await harness.make("a")
    await harness.store.create(namespace_of("shop"))
    await harness.store.delete(CONFIG_MAP, "default", "a")
    assert [False, True, True] == [
        namespaces.is_relevant(each) for each in await harness.new_changes()
    ]
