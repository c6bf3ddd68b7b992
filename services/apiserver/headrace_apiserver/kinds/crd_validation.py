"""CustomResourceDefinitions that users apply: their validation, and the status of a served one.

Everything that a definition asks for must be supported: structural schemas, rules in CEL that
compile, no conversion webhook. Anything else is rejected with the field and the reason, because a
kind that is only partly supported loses its users' data. (pure)
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace_apiserver.schemas import status_causes
from headrace_apiserver.schemas.structural import TextCheck, schema_problems
from headrace_apiserver.statuses import StatusCause

VERSIONS_MAX = 20
_API_GROUPS = frozenset(("apiextensions.k8s.io", "authentication.k8s.io", "authorization.k8s.io"))


def is_api_group(group: str) -> bool:
    """Whether the group is one of the API server's own: a definition in it would hide its kinds."""
    return group in _API_GROUPS


def definition_problems(
    definition: Mapping[str, Any],
    *,
    rule: TextCheck,
    pattern: TextCheck,
    is_reserved: Callable[[str], bool] = is_api_group,
) -> list[StatusCause]:
    """What is wrong with a CRD that conforms to its schema; at most 100 problems. `is_reserved`
    returns whether definitions must not use a group.
    """
    spec = definition["spec"]
    found = _name_problems(definition["metadata"].get("name", ""), spec, is_reserved)
    versions = spec["versions"]
    if len(versions) > VERSIONS_MAX:
        return [status_causes.too_many("spec.versions", len(versions), VERSIONS_MAX)]
    if sum(bool(version["storage"]) for version in versions) != 1:
        names = [version["name"] for version in versions]
        found.append(
            status_causes.invalid(
                "spec.versions", names, "must have exactly one version marked as storage version"
            )
        )
    if len({version["name"] for version in versions}) < len(versions):
        found.append(
            status_causes.invalid("spec.versions", "array", "must contain unique version names")
        )
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        found.append(
            status_causes.not_supported(
                "spec.conversion.strategy", spec["conversion"]["strategy"], ["None"]
            )
        )
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}].schema.openAPIV3Schema"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, Mapping):
            found.append(status_causes.required(path, "schemas are required"))
            continue
        found += schema_problems(schema, path, rule=rule, pattern=pattern)
    return found[:100]


def definition_status(
    definition: Mapping[str, Any], conflicts: Mapping[str, str]
) -> dict[str, Any]:
    """The status of a definition. `conflicts` are messages for those of its names (`Plural`,
    `Kind`, ...) that other definitions have; with any, it is not served.
    """
    spec, old = definition["spec"], definition.get("status") or {}
    names = {
        "singular": spec["names"]["kind"].lower(),
        "listKind": f"{spec['names']['kind']}List",
        **spec["names"],
    }
    storage = next((version["name"] for version in spec["versions"] if version["storage"]), "")
    stored = list(dict.fromkeys([*(old.get("storedVersions") or ()), storage]))
    if conflicts:
        part, message = next(iter(conflicts.items()))
        conditions = [
            _condition("NamesAccepted", "False", f"{part}Conflict", message),
            _condition("Established", "False", "NotAccepted", "not all names are accepted"),
        ]
        return {
            "acceptedNames": {"kind": "", "plural": ""},
            "conditions": conditions,
            "storedVersions": stored,
        }
    conditions = [
        _condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        _condition(
            "Established", "True", "InitialNamesAccepted", "the initial names have been accepted"
        ),
    ]
    return {"acceptedNames": names, "conditions": conditions, "storedVersions": stored}


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    """A condition without its time, which is added when it is written."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _name_problems(
    name: str, spec: Mapping[str, Any], is_reserved: Callable[[str], bool]
) -> list[StatusCause]:
    found = []
    if name != f"{spec['names']['plural']}.{spec['group']}":
        found.append(
            status_causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
        )
    if "." not in spec["group"]:
        found.append(
            status_causes.invalid(
                "spec.group", spec["group"], "should be a domain with at least one dot"
            )
        )
    if is_reserved(spec["group"]):
        found.append(
            status_causes.invalid(
                "spec.group", spec["group"], "this group is reserved; use a domain of your own"
            )
        )
    return found
