"""What a source of AWS becomes in the configuration of its adapter."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from headrace.resources import integration_source as rules
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource

ACCESS_KEY, SECRET_KEY = "aws.accessKey", "aws.secretKey"
"""Keys of the Secret, as in Knative."""
_HOST, _PROTOCOL = "amazonaws.com", "https"
_SQS_FIELDS = (
    "arn",
    "region",
    "autoCreateQueue",
    "deleteAfterRead",
    "greedy",
    "delay",
    "maxMessagesPerPoll",
    "waitTimeSeconds",
    "visibilityTimeout",
)


def sqs_config(request: ReconcileRequest) -> Mapping[str, Any]:
    """The configuration of the adapter `aws-sqs` for an IntegrationSource."""
    source = request.resource
    given = rules.variant_spec(source, rules.SQS) or {}
    type_, origin = rules.event_type(source)
    return {
        "type": type_,
        "source": origin,
        "subject": rules.event_subject(rules.SQS),
        **{name: given[name] for name in _SQS_FIELDS if given.get(name) is not None},
        "queueUrl": given.get("queueURL") or "",
        "endpoint": _endpoint(given),
        "auth": _auth(source),
    }


def _endpoint(given: Mapping[str, Any]) -> str:
    """The URL of the API; empty for AWS's own."""
    override = given.get("uriEndpointOverride")
    if override and given.get("overrideEndpoint"):
        if not _is_url(override):
            raise InvalidSource(
                "InvalidEndpoint",
                f"spec.aws.sqs.uriEndpointOverride is not an http or https URL: {override[:200]}",
            )
        return str(override)
    host, protocol = given.get("host") or _HOST, given.get("protocol") or _PROTOCOL
    if (host, protocol) == (_HOST, _PROTOCOL):
        return ""
    return f"{protocol}://sqs.{given.get('region', '')}.{host}"


def _is_url(text: str) -> bool:
    try:
        parsed = urlsplit(text)
    except ValueError:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.hostname)


def _auth(source: Resource) -> Mapping[str, Any]:
    """References to the credentials; none for those of the sources service."""
    reference = (rules.variant_spec(source, "aws.auth.secret.ref") or {}).get("name")
    if not reference:
        return {}
    return {
        "accessKey": {"name": reference, "key": ACCESS_KEY},
        "secretKey": {"name": reference, "key": SECRET_KEY},
    }
