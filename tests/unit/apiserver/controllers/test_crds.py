"""The controller of CRDs: what is deleted with a definition, and what is not."""

from datetime import UTC, datetime

from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.controllers.crds import (
    CLEANUP_FINALIZER,
    DEFINITION,
    CustomResourceDefinitionController,
)
from headrace_apiserver.kinds.catalog import Catalog
from tests.unit.apiserver.kinds.test_catalog import gadget
from tests.unit.apiserver.store_follower import StoreFollower

GADGET = ResourceKind(
    group="shop.dev", version="v1", kind="Gadget", plural="gadgets", singular="gadget"
)


async def _names_after_definition(kind: ResourceKind) -> list[str]:
    """The objects of a kind with one object, after a user's definition of that name has been stored
    and deleted.
    """
    followed = await StoreFollower().start()
    catalog = Catalog([], reconciled=(OWNERSHIP_RECORD,))
    controller = CustomResourceDefinitionController(
        followed.store, catalog, lambda: datetime.fromtimestamp(followed.clock.now(), UTC)
    )
    scope = "Namespaced" if kind.namespaced else "Cluster"
    definition = gadget(
        group=kind.group, names={"kind": kind.kind, "plural": kind.plural}, scope=scope
    )
    await followed.make("object", kind=kind)
    stored = await followed.store.create(Resource(DEFINITION, definition))
    controller.on_changes(await followed.new_changes())
    await controller.reconcile()
    await followed.store.delete(DEFINITION, "", stored.name, finalizers=[CLEANUP_FINALIZER])
    await controller.reconcile()
    assert [] == followed.names(DEFINITION)
    return followed.names(kind)


async def test_objects_are_deleted_with_their_definition() -> None:
    """A kind that is no longer served has no objects."""
    assert [] == await _names_after_definition(GADGET)


async def test_records_of_the_controller_are_not_deleted_with_a_definition() -> None:
    """A definition that an earlier version accepted under the name of an internal kind is removed,
    and the records of that kind stay.
    """
    assert ["object"] == await _names_after_definition(OWNERSHIP_RECORD)
