"""The writer's duty for definitions: what goes with one, and what does not."""

from datetime import UTC, datetime

from headrace.resources.kinds import OWNERSHIP_RECORD
from headrace.resources.resource import Resource, ResourceKind
from headrace_apiserver.controllers.crds import CLEANUP_FINALIZER, DEFINITION, DefinitionController
from headrace_apiserver.kinds.catalog import Catalog
from tests.unit.apiserver.kinds.test_catalog import gadget
from tests.unit.apiserver.store_follower import StoreFollower

GADGET = ResourceKind(
    group="shop.dev", version="v1", kind="Gadget", plural="gadgets", singular="gadget"
)


async def _names_after_definition(kind: ResourceKind) -> list[str]:
    """What there is of a kind, of one object, when a user's definition of that name has been
    stored, deleted and let go.
    """
    followed = await StoreFollower().start()
    catalog = Catalog([], reconciled=(OWNERSHIP_RECORD,))
    controller = DefinitionController(
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


async def test_objects_go_with_their_definition() -> None:
    """A kind that is served no more has no objects."""
    assert [] == await _names_after_definition(GADGET)


async def test_records_of_the_controller_never_go_with_a_definition() -> None:
    """One that an earlier version took under the name of an internal kind is let go, and what that
    kind holds stays.
    """
    assert ["object"] == await _names_after_definition(OWNERSHIP_RECORD)
