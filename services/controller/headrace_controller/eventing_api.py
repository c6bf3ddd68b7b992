"""The API server with the eventing kinds.

`headrace_apiserver` knows no kind of Knative's. What it must know of them is put together here: the
rules of each registered kind with what the ConfigMaps of the installation say, the annotations
about users, and the namespace of the system.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.errors import Permanent
from headrace.domain.field_errors import render
from headrace.domain.ports import Clock
from headrace.resources.channelable import added_subscribers
from headrace.resources.control_ports import ResourceStore
from headrace.resources.kind_rules import KindRules
from headrace.resources.kinds import CONFIG_MAP
from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SYSTEM_NAMESPACE, SystemConfig
from headrace_apiserver.admission.admit import admit as admit_object
from headrace_apiserver.admission.plugin import AdmissionPlugin, Document
from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.options import Strictness
from headrace_apiserver.schemas.loop_budget import LoopBudgetExceeded
from headrace_apiserver.server import ApiServer
from headrace_apiserver.statuses import StatusError, bad_request
from headrace_apiserver.strategy import KindStrategy, Strategies
from headrace_controller.builtin_crds import load_catalog
from headrace_controller.reconcile.channel_lookup import backing_kind
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.subscriber_lists import Admit
from headrace_controller.system_config import Find, SystemConfigReader
from headrace_controller.system_config import validate as validate_config_map

_KNATIVE = ".knative.dev"
_CONFIG_MAP_RULES = KindRules(validate=validate_config_map)


def create_api_server(
    store: ResourceStore,
    clock: Clock,
    *,
    catalog: Catalog | None = None,
    reconcilers: Reconcilers = RECONCILERS,
) -> ApiServer:
    """The API server over `store`. Raises Permanent if the installation has no CRD files."""
    return ApiServer(
        store,
        catalog or load_catalog(reconcilers),
        clock,
        strategies=CurrentStrategies(store.find, reconcilers),
        plugins=(UserInfoAnnotations(), SubscribersOfChannels()),
        namespaces=(SYSTEM_NAMESPACE,),
    )


def create_admission(catalog: Catalog) -> Admit:
    """Checks what the controller itself stores of kinds that others have defined, as the API does
    for its clients: with the defaults of the schema, and without fields that it does not have.
    """

    def admit(wanted: Resource, old: Resource | None) -> Resource:
        kind = wanted.kind
        if catalog.reconciled_kind(kind) is not None:
            return wanted
        served = catalog.of_type(kind.api_version, kind.kind)
        if served is None:
            raise Permanent(f'no matches for kind "{kind.kind}" in version "{kind.api_version}"')
        try:
            admitted = admit_object(
                served,
                wanted.object,
                old=None if old is None else served.convert(old.object),
                strictness=Strictness.IGNORE,
                kinds=catalog,
            )
        except (StatusError, LoopBudgetExceeded) as error:
            raise Permanent(str(error) or f"{kind.kind} takes too long to check") from error
        return Resource(served.storage, served.convert_to_storage(admitted.document))

    return admit


def strategies(
    system: SystemConfig = BUILT_IN, reconcilers: Reconcilers = RECONCILERS
) -> Strategies:
    """The rules of all kinds under a system configuration."""
    rules = {each.kind: each.rules for each in reconcilers} | {CONFIG_MAP: _CONFIG_MAP_RULES}
    return {(kind.group, kind.kind): _strategy(each, system) for kind, each in rules.items()}


def _strategy(rules: KindRules, system: SystemConfig) -> KindStrategy:
    return KindStrategy(
        set_defaults=lambda resource: rules.set_defaults(resource, system),
        validate=lambda resource: rules.validate(resource, system),
        validate_update=rules.validate_update,
        warnings=rules.warnings,
    )


class CurrentStrategies:
    """The rules under the system configuration of the moment. Only reads memory."""

    def __init__(self, find: Find, reconcilers: Reconcilers) -> None:
        """`find` returns an object of the store, as `ResourceStore.find` does."""
        self._reconcilers = reconcilers
        self._reader = SystemConfigReader(find)
        self._system = BUILT_IN
        self._strategies = strategies(BUILT_IN, reconcilers)

    def __call__(self) -> Strategies:
        """The rules in force now; the same object while the configuration does not change."""
        system = self._reader.read()
        if system is not self._system:
            self._system, self._strategies = system, strategies(system, self._reconcilers)
        return self._strategies


class UserInfoAnnotations(AdmissionPlugin):
    """Annotates objects of Knative's groups with the user who created them and the one who last
    changed their spec, as Knative's webhook does.
    """

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """The object with `<group>/creator` and `<group>/lastModifier`."""
        group = scope.kind.group
        if not group.endswith(_KNATIVE):
            return draft
        creator, modifier = f"{group}/creator", f"{group}/lastModifier"
        metadata = draft["metadata"]
        annotations = dict(metadata.get("annotations") or {})
        if before is None:
            annotations[creator] = annotations[modifier] = scope.user.name
        else:
            old = before["metadata"].get("annotations") or {}
            for each in (creator, modifier):
                if each in old:
                    annotations.setdefault(each, old[each])
            if draft.get("spec") != before.get("spec"):
                annotations[modifier] = scope.user.name
        if not annotations:
            return draft
        return {**draft, "metadata": {**metadata, "annotations": annotations}}


class SubscribersOfChannels(AdmissionPlugin):
    """Refuses entries that a client adds to `spec.subscribers` of a channel that this controller
    serves: they would have no effect. Knative's webhook refuses them too.
    """

    def mutate(
        self, scope: RequestScope, draft: Document, before: Mapping[str, Any] | None
    ) -> Document:
        """The object as it is. Raises StatusError 400."""
        if before is None or backing_kind(draft) is None:
            return draft
        lists = (_subscribers(draft), _subscribers(before))
        errors = added_subscribers(*lists, scope.user.name)
        if errors:
            raise bad_request(f"validation failed: {render(errors)}")
        return draft


def _subscribers(document: Mapping[str, Any]) -> Any:
    spec = document.get("spec")
    return spec.get("subscribers") if isinstance(spec, Mapping) else None
