"""PingSource (`sources.knative.dev/v1`), and CronJobSource of Knative 0.5: validation, defaults and
conditions.
"""

import json
from base64 import b64decode
from typing import Any

from headrace.domain.field_errors import FieldError, both_given, invalid
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

EVENT_TYPE, CRON_JOB_EVENT_TYPE = "dev.knative.sources.ping", "dev.knative.cronjob.event"
MISSED_RUNS_ANNOTATION = "headrace.dev/missed-runs"
"""What happens to times at which no process could fire."""
MISSED_RUNS = ("skip", "once", "all")
CONDITIONS = source_conditions()
SHAPE = shape_of(
    {"schedule": str, "timezone": str, "contentType": str, "data": str, "dataBase64": str}
)
_JSON = "application/json"


def validate(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted PingSource."""
    spec = source.spec
    errors = validate_source(source, system) + _wrong_missed_runs(source)
    data, encoded = spec.get("data"), spec.get("dataBase64")
    if data and encoded:
        errors.append(both_given("spec.data", "spec.dataBase64"))
    elif encoded:
        errors += _wrong_encoded(encoded, str(spec.get("contentType") or ""))
    elif data and spec.get("contentType") == _JSON and not _is_json_object(data):
        errors.append(_no_object("spec.data"))
    return errors


def validate_cron_job(source: Resource, system: SystemConfig = BUILT_IN) -> list[FieldError]:
    """The errors of a defaulted CronJobSource."""
    return validate_source(source, system) + _wrong_missed_runs(source)


def missed_runs(source: Resource) -> str:
    """The policy of its annotation."""
    return source.annotations.get(MISSED_RUNS_ANNOTATION) or MISSED_RUNS[0]


def event_source(source: Resource) -> str:
    """The attribute `source` of its events."""
    return f"/apis/v1/namespaces/{source.namespace}/{source.kind.plural}/{source.name}"


def cron_job_data(text: str) -> str:
    """The data of a CronJobSource's events: JSON as it is, other text in an object."""
    try:
        _read_json(text)
    except (ValueError, RecursionError):
        return json.dumps({"body": text}, separators=(",", ":"), ensure_ascii=False)
    return text


def _wrong_missed_runs(source: Resource) -> list[FieldError]:
    given = source.annotations.get(MISSED_RUNS_ANNOTATION)
    if given is None or given in MISSED_RUNS:
        return []
    path = f"metadata.annotations[{MISSED_RUNS_ANNOTATION}]"
    return [invalid(given[:100], path, f"expected one of {', '.join(MISSED_RUNS)}")]


def _wrong_encoded(encoded: str, content_type: str) -> list[FieldError]:
    try:
        data = b64decode(encoded, validate=True)
    except ValueError:
        return [invalid(encoded[:100], "spec.dataBase64", "expected base64")]
    if content_type == _JSON and not _is_json_object(data):
        return [_no_object("spec.dataBase64")]
    return []


def _is_json_object(data: str | bytes) -> bool:
    try:
        return isinstance(_read_json(data), dict)
    except (ValueError, RecursionError):
        return False


def _read_json(data: str | bytes) -> Any:
    """Python reads NaN and Infinity too, which are not JSON. Raises ValueError, and RecursionError
    for what is nested too deep.
    """

    def reject(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(data, parse_constant=reject)


def _no_object(path: str) -> FieldError:
    return invalid("not a JSON object", path, f"spec.contentType is {_JSON}")


RULES = KindRules(SHAPE, set_defaults=default_source, validate=validate, warnings=source_warnings)
CRON_JOB_RULES = KindRules(
    shape_of({"schedule": str, "data": str}),
    set_defaults=default_source,
    validate=validate_cron_job,
    warnings=source_warnings,
)
