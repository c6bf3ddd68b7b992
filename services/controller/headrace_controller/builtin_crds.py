"""The CRDs that come with the controller, read from its package, or in a checkout from the chart.

One set of files serves both modes: the CRDs that the chart installs in a cluster are those that the
controller's own API serves.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from headrace.domain.errors import Permanent
from headrace.resources import event_type_conversion, trigger_conversion
from headrace.resources.kinds import (
    CHANNEL,
    EVENT_TYPE,
    GITHUB_SOURCE,
    TRIGGER,
    WEBHOOK_SOURCE,
)
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.core_definitions import core_definitions, read_definitions
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.registry import Reconcilers

_PACKAGE = "headrace_controller"
_CHECKOUT = Path(__file__).parents[3] / "charts" / "headrace" / "files" / "crds"


def load_catalog(reconcilers: Reconcilers = RECONCILERS) -> Catalog:
    """The kinds that a new controller serves. Raises Permanent if the installation has no CRD
    files.
    """
    return Catalog(
        custom_definitions(),
        core=core_definitions(),
        reconciled=reconcilers.stored_kinds,
        conversions={
            (EVENT_TYPE.group, EVENT_TYPE.kind): event_type_conversion.convert_spec,
            (TRIGGER.group, TRIGGER.kind): trigger_conversion.convert_spec,
        },
        # `kubectl get channels` means those of today, not those of Knative 0.5; sources likewise.
        first_groups=(CHANNEL.group, GITHUB_SOURCE.group, WEBHOOK_SOURCE.group),
    )


def custom_definitions() -> list[Mapping[str, Any]]:
    """The CRDs of the chart. Raises Permanent if there are none."""
    packaged = files(_PACKAGE).joinpath("crds")
    found = list(read_definitions(packaged if packaged.is_dir() else _CHECKOUT))
    if not found:
        raise Permanent(
            f"the installation has no CRD files: neither in the package {_PACKAGE} nor in"
            f" {_CHECKOUT}; install it again"
        )
    return found
