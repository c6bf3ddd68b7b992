"""IntegrationSource (`sources.knative.dev/v1alpha1`): validation, warnings, conditions, and its
variants, one of which is given.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError
from headrace.resources.json_shapes import ANY
from headrace.resources.kind_rules import KindRules
from headrace.resources.resource import Resource
from headrace.resources.source import (
    default_source,
    shape_of,
    source_conditions,
    source_warnings,
    validate_source,
)
from headrace.resources.system_config import BUILT_IN, SystemConfig

TIMER, S3, SQS, DDB_STREAMS = "timer", "aws.s3", "aws.sqs", "aws.ddbStreams"
_NAMES = {TIMER: "timer", S3: "aws-s3", SQS: "aws-sqs", DDB_STREAMS: "aws-ddb-streams"}
"""The name of each variant in the attributes of its events, by its field in the spec."""
CONDITIONS = source_conditions()
SHAPE = shape_of(
    {
        "timer": {"*": ANY},
        "aws": {
            "s3": {"*": ANY},
            "sqs": {
                "arn": str,
                "queueURL": str,
                "region": str,
                "host": str,
                "protocol": str,
                "uriEndpointOverride": str,
                "overrideEndpoint": bool,
                "*": ANY,
            },
            "ddbStreams": {"*": ANY},
            "auth": {"secret": {"ref": {"name": str}}, "serviceAccountName": str},
        },
    }
)


def variants_of(source: Resource) -> list[str]:
    """The variants that are given, one in a valid resource."""
    return [name for name in _NAMES if variant_spec(source, name) is not None]


def variant_spec(source: Resource, variant: str) -> Mapping[str, Any] | None:
    """The part of the spec for a variant; None if it is not given."""
    found: Any = source.spec
    for name in variant.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted IntegrationSource."""
    errors = validate_source(source, system)
    given = variants_of(source)
    if len(given) > 1:
        path = "spec.aws" if all(each.startswith("aws.") for each in given) else "spec"
        errors.append(FieldError("only one source type can be set", (path,)))
    elif not given:
        errors.append(FieldError("at least one source type must be specified", ("spec",)))
    return errors


def warnings(source: Resource) -> list[str]:
    """Warnings about a valid IntegrationSource: what it gives in vain."""
    found = source_warnings(source)
    if source.spec.get("template"):
        found.append("spec.template is not used: the sources service runs the source")
    for variant in variants_of(source):
        given = variant_spec(source, variant) or {}
        if given.get("uriEndpointOverride") and not given.get("overrideEndpoint"):
            field = f"spec.{variant}.uriEndpointOverride"
            found.append(f"{field} is not used while overrideEndpoint is not true")
    auth = variant_spec(source, "aws.auth") or {}
    if auth.get("serviceAccountName"):
        found.append(
            "spec.aws.auth.serviceAccountName is not used: without spec.aws.auth.secret the"
            " credentials are those of the sources service"
        )
    return found


def event_type(source: Resource) -> tuple[str, str]:
    """Type and source of its events."""
    [variant] = variants_of(source)
    name = f"dev.knative.eventing.{_NAMES[variant]}"
    return name, f"{name}-source"


def event_subject(variant: str) -> str:
    """The subject of its events."""
    return f"{_NAMES[variant]}-source"


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=warnings)
