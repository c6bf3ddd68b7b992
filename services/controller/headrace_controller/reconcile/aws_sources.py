"""Sources of AWS: what their specs become in the configuration of the adapter, and AwsSqsSource of
Knative 0.5.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from headrace.resources import aws_sqs_source as legacy_rules
from headrace.resources import integration_source as rules
from headrace.resources.kinds import LEGACY_AWS_SQS_SOURCE
from headrace.resources.resource import Resource
from headrace_controller.reconcile.registry import ReconcileRequest
from headrace_controller.reconcile.sources import InvalidSource, SourceKind

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


def _legacy_config(request: ReconcileRequest) -> Mapping[str, Any]:
    """As the receiver of 0.5 polled: 10 messages, 3 s, without a pause."""
    source = request.resource
    secret = source.spec.get("awsCredsSecret")
    auth = {"credentialsFile": {"name": secret["name"], "key": secret["key"]}} if secret else {}
    return {
        "type": legacy_rules.EVENT_TYPE,
        "source": legacy_rules.event_source(source),
        "wholeMessage": True,
        "queueUrl": source.spec["queueUrl"],
        "auth": auth,
        "greedy": True,
        "delay": 0,
        "maxMessagesPerPoll": 10,
        "waitTimeSeconds": 3,
    }


LEGACY_RECONCILER = SourceKind(
    kind=LEGACY_AWS_SQS_SOURCE,
    rules=legacy_rules.RULES,
    adapter="aws-sqs",
    config=_legacy_config,
    conditions=legacy_rules.CONDITIONS,
    event_types=lambda source: ((legacy_rules.EVENT_TYPE, legacy_rules.event_source(source)),),
).reconciler()
