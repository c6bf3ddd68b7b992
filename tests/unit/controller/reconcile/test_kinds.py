"""Which kinds a controller reconciles in a cluster."""

from headrace.resources.kinds import LEGACY_CHANNEL
from headrace_controller.reconcile.kinds import (
    CHANNEL_KINDS,
    LEGACY_KINDS,
    LEGACY_SOURCES_GROUP,
    RECONCILERS,
    reconcilers_in_cluster,
)


def test_all_kinds_are_reconciled_unless_something_else_is_said() -> None:
    """Without those of Knative 0.5, their CRDs need not exist; a controller of some namespaces may
    not read what is in none.
    """
    every = reconcilers_in_cluster(
        RECONCILERS, channels=True, sources=True, legacy=True, namespaced=False
    )
    assert every.kinds == RECONCILERS.kinds
    few = reconcilers_in_cluster(
        RECONCILERS, channels=True, sources=True, legacy=False, namespaced=False
    )
    sources = {kind for kind in RECONCILERS.kinds if kind.group == LEGACY_SOURCES_GROUP}
    assert sources
    assert set(RECONCILERS.kinds) - set(few.kinds) == set(LEGACY_KINDS) | sources
    assert not set(LEGACY_KINDS) & set(few.watched_kinds)
    none = reconcilers_in_cluster(
        RECONCILERS, channels=False, sources=True, legacy=True, namespaced=False
    )
    assert not set(CHANNEL_KINDS) & set(none.kinds)
    own = reconcilers_in_cluster(
        RECONCILERS, channels=True, sources=True, legacy=True, namespaced=True
    )
    assert LEGACY_CHANNEL in own.kinds
    assert all(kind.namespaced for kind in own.kinds)
