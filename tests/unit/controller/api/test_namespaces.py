"""Namespaces of an installation: there from the beginning, made for what lives in them already, emptied before they go."""

import pytest

from headrace.resources.kinds import BROKER, CONFIG_MAP
from headrace_controller.api.upkeep.namespaces import CONTENT_FINALIZER, INITIAL, NAMESPACE, Namespaces, namespace_of, with_phase
from tests.unit.controller.api.keeping import Followed

KINDS = (NAMESPACE, CONFIG_MAP, BROKER)


@pytest.fixture
async def site() -> Followed:
    """A store."""
    return await Followed().start()


async def test_the_first_namespaces_and_those_lived_in_are_made_once_a_term(site: Followed) -> None:
    """Also for resources of a time before namespaces; one that somebody deletes later is not made again."""
    await site.make("old", namespace="shop")
    namespaces = Namespaces(site.store, lambda: KINDS)
    await namespaces.work()
    assert sorted((*INITIAL, "shop")) == site.names(NAMESPACE)
    await site.store.delete(NAMESPACE, "", "kube-public")
    await namespaces.work()
    assert "kube-public" not in site.names(NAMESPACE)


async def test_a_namespace_is_emptied_before_it_goes(site: Followed) -> None:
    """Terminating; everything in it is deleted; what has finalizers is waited for; then it is gone."""
    namespaces = Namespaces(site.store, lambda: KINDS)
    await namespaces.work()
    await site.store.create(namespace_of("shop"))
    await site.make("plain", namespace="shop")
    await site.make("held", kind=BROKER, namespace="shop", finalizers=["somebody"])
    await site.make("elsewhere")
    await site.store.delete(NAMESPACE, "", "shop", finalizers=(CONTENT_FINALIZER,))
    for _ in range(3):
        assert await namespaces.work() is not None
    assert {"phase": "Terminating"} == site.store.get(NAMESPACE, "", "shop").object["status"]
    held = site.store.get(BROKER, "shop", "held")
    assert ([], True) == (site.names(CONFIG_MAP, "shop"), held.deleting)
    await site.store.replace(held.with_metadata(finalizers=None))
    assert await namespaces.work() is None
    assert "shop" not in site.names(NAMESPACE)
    assert ["elsewhere"] == site.names(CONFIG_MAP)


async def test_a_namespace_with_another_finalizer_stays(site: Followed) -> None:
    """Empty, but somebody else has to clean up too."""
    namespaces = Namespaces(site.store, lambda: KINDS)
    made = await site.store.create(namespace_of("shop"))
    await site.store.replace(made.with_metadata(finalizers=["somebody"]))
    await site.store.delete(NAMESPACE, "", "shop", finalizers=(CONTENT_FINALIZER,))
    await namespaces.work()
    await namespaces.work()
    assert ("somebody",) == site.store.get(NAMESPACE, "", "shop").finalizers


def test_a_namespace_has_its_label_and_phase() -> None:
    """Whatever is sent: selectors by name rely on the label."""
    made = with_phase({"metadata": {"name": "shop", "labels": {"a": "b"}}, "status": {"phase": "Odd"}}, None)
    assert {"a": "b", "kubernetes.io/metadata.name": "shop"} == made["metadata"]["labels"]
    assert "Active" == made["status"]["phase"]


async def test_what_concerns_the_duty(site: Followed) -> None:
    """Namespaces, and whatever goes from a namespace; nothing else wakes it."""
    namespaces = Namespaces(site.store, lambda: KINDS)
    await site.make("a")
    await site.store.create(namespace_of("shop"))
    await site.store.delete(CONFIG_MAP, "default", "a")
    assert [False, True, True] == [namespaces.concerns(each) for each in await site.new_changes()]
