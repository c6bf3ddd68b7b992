"""The API's own admission for tests that work with domain resources: what a test stores is what a
request could have stored.
"""

import pytest

from headrace.resources.resource import Resource
from headrace.resources.system_config import BUILT_IN, SystemConfig
from headrace_apiserver.kinds.builtin_crds import load_catalog
from headrace_apiserver.schemas.admission import admit as admit_document
from headrace_apiserver.schemas.metadata import metadata_problems
from headrace_apiserver.statuses import StatusError

_CATALOG = load_catalog()


def admit(
    resource: Resource, *, old: Resource | None = None, system: SystemConfig = BUILT_IN
) -> Resource:
    """What is stored of a create (no `old`) or a replace. Raises StatusError."""
    served = _CATALOG.of_type(resource.kind.api_version, resource.kind.kind)
    assert served is not None, resource.kind
    document = admit_document(
        served,
        resource.object,
        old=None if old is None else old.object,
        kinds=_CATALOG,
        system=system,
    ).document
    return Resource(resource.kind, document)


def warnings_of(resource: Resource) -> tuple[str, ...]:
    """What a client is warned of when it writes the resource."""
    served = _CATALOG.of_type(resource.kind.api_version, resource.kind.kind)
    assert served is not None, resource.kind
    return admit_document(served, resource.object, kinds=_CATALOG).warnings


def refusal(
    resource: Resource, *, old: Resource | None = None, system: SystemConfig = BUILT_IN
) -> str:
    """Why a rule of the kind refuses the resource, in Knative's words; fails the test when anything
    else happens.
    """
    with pytest.raises(StatusError) as refused:
        admit(resource, old=old, system=system)
    prefix, _, message = str(refused.value).partition("validation failed: ")
    assert (400, "BadRequest", "") == (refused.value.code, refused.value.reason, prefix)
    return message


def is_legal_name(resource: Resource) -> bool:
    """Whether the server would take the resource's metadata: an RFC 1123 name in an RFC 1123
    namespace.
    """
    return not metadata_problems(resource.kind, resource.metadata, None)
