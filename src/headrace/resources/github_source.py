"""GitHubSource (`sources.knative.dev/v1alpha1`, and that of Knative 0.5): validation, defaults and
conditions.
"""

import re
from collections.abc import Sequence
from typing import Final

from headrace.domain.field_errors import FieldError, invalid
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

SECRETS_PROVIDED = "SecretsProvided"
WEBHOOK_CONFIGURED = "WebhookConfigured"
CONDITIONS = source_conditions(SECRETS_PROVIDED, WEBHOOK_CONFIGURED)
WEBHOOK_FIELDS = ("webhookIDKey", "webhookAddress")
"""Of the status: the webhook at GitHub."""
NAMES_ANNOTATION = "headrace.dev/event-names"
"""Whose names types, subjects and extensions have."""
KNATIVE, CLOUDEVENTS = "knative", "cloudevents"
TYPE_PREFIX = "dev.knative.source.github."
DEFAULT_API_URL: Final = "https://api.github.com/"
_SECRET_SHAPE = {"secretKeyRef": {"name": str, "key": str, "optional": bool}}
SHAPE = shape_of(
    {
        "ownerAndRepository": str,
        "eventTypes": list,
        "accessToken": _SECRET_SHAPE,
        "secretToken": _SECRET_SHAPE,
        "githubAPIURL": str,
        "secure": bool,
        "sink": ANY,
    }
)
_OWNER_AND_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?").fullmatch


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted GitHubSource."""
    errors = validate_source(source, system, sink_required=False)
    name = source.spec.get("ownerAndRepository")
    if name and not _OWNER_AND_REPOSITORY(name):
        details = "expected owner/repository, or an organization alone"
        errors.append(invalid(name[:100], "spec.ownerAndRepository", details))
    names = source.annotations.get(NAMES_ANNOTATION)
    if names not in (None, KNATIVE, CLOUDEVENTS):
        path = f"metadata.annotations[{NAMES_ANNOTATION}]"
        errors.append(invalid(names[:100], path, f"expected {KNATIVE} or {CLOUDEVENTS}"))
    return errors


def event_names(source: Resource) -> str:
    """The naming of its events."""
    return source.annotations.get(NAMES_ANNOTATION) or KNATIVE


def event_source(source: Resource) -> str:
    """The attribute `source` of its events."""
    return f"https://github.com/{source.spec['ownerAndRepository']}"


def event_types(source: Resource) -> Sequence[tuple[str, str]]:
    """Type and source of its events. Those of the CloudEvents names depend on what happens."""
    if event_names(source) == CLOUDEVENTS:
        return ()
    origin = event_source(source)
    names = dict.fromkeys(source.spec["eventTypes"])
    return tuple((f"{TYPE_PREFIX}{name}", origin) for name in names)


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
