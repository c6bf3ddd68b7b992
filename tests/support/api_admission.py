"""The admission of the API for tests that work with resources: what a test stores is what a request
could have stored.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace_apiserver.admission.admit import Admitted
from headrace_apiserver.admission.admit import admit as admit_object
from headrace_apiserver.kinds.served import ServedKind
from headrace_apiserver.schemas.metadata import metadata_problems
from headrace_apiserver.statuses import StatusError
from headrace_apiserver.strategy import NO_RULES
from headrace_controller.builtin_crds import load_catalog
from headrace_controller.eventing_api import strategies

_CATALOG = load_catalog()


def admit_document(
    served: ServedKind,
    document: Mapping[str, Any],
    *,
    system: SystemConfig = BUILT_IN,
    **options: Any,
) -> Admitted:
    """`admission.admit.admit` with the rules of the eventing kinds. Raises StatusError."""
    strategy = strategies(system).get((served.kind.group, served.kind.kind), NO_RULES)
    return admit_object(served, document, strategy=strategy, **options)


def admit(
    resource: Resource, *, old: Resource | None = None, system: SystemConfig = BUILT_IN
) -> Resource:
    """What is stored of a create (no `old`) or a replace. Raises StatusError."""
    before = None if old is None else old.object
    admitted = admit_document(
        _served(resource), resource.object, old=before, kinds=_CATALOG, system=system
    )
    return Resource(resource.kind, admitted.document)


def warnings_of(resource: Resource) -> tuple[str, ...]:
    """The warnings of a write of the resource."""
    return admit_document(_served(resource), resource.object, kinds=_CATALOG).warnings


def refusal(
    resource: Resource, *, old: Resource | None = None, system: SystemConfig = BUILT_IN
) -> str:
    """Why a rule of the kind rejects the resource, as Knative's webhook says it; fails the test if
    anything else happens.
    """
    with pytest.raises(StatusError) as refused:
        admit(resource, old=old, system=system)
    prefix, _, message = str(refused.value).partition("validation failed: ")
    assert (400, "BadRequest", "") == (refused.value.code, refused.value.reason, prefix)
    return message


def _served(resource: Resource) -> ServedKind:
    served = _CATALOG.of_type(resource.kind.api_version, resource.kind.kind)
    assert served is not None, resource.kind
    return served


def is_legal_name(resource: Resource) -> bool:
    """Whether the server accepts the resource's metadata: an RFC 1123 name in an RFC 1123
    namespace.
    """
    return not metadata_problems(resource.kind, resource.metadata, None)
