"""Label selectors as resources have them (`matchLabels`, `matchExpressions`): validation, and their
form as the parameter `labelSelector` of the Kubernetes API. (pure)

The API server of the watched objects rejects a wrong selector, which would only be seen later.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from headrace.domain.field_errors import FieldError, disallowed, invalid, missing
from headrace.resources.json_shapes import ANY, Shape

SELECTOR_SHAPE: Shape = {"matchLabels": {"*": str}, "matchExpressions": list, "*": ANY}
_WITH_VALUES: Final = {"In": "in", "NotIn": "notin"}
_WITHOUT_VALUES: Final = {"Exists": "", "DoesNotExist": "!"}
_NAME = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?").fullmatch
_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?").fullmatch
_SHOWN_MAX: Final = 100
_KEY_RULE: Final = "expected a label: a name of at most 63 characters, with an optional DNS prefix"
_VALUE_RULE: Final = "expected a label value: at most 63 alphanumeric characters, '-', '_' or '.'"


def validate_selector(selector: Any, path: str) -> list[FieldError]:
    """The errors of a selector whose fields have the right types."""
    if not isinstance(selector, Mapping):
        return []
    errors: list[FieldError] = []
    for key, value in (selector.get("matchLabels") or {}).items():
        errors += _wrong_key(key, f"{path}.matchLabels") + _wrong_value(
            value, f"{path}.matchLabels.{key[:_SHOWN_MAX]}"
        )
    for index, each in enumerate(selector.get("matchExpressions") or ()):
        errors += _wrong_requirement(each, f"{path}.matchExpressions[{index}]")
    return errors


def selector_text(selector: Mapping[str, Any]) -> str:
    """The form of a valid selector in a URL; empty for one that selects everything."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, operator = each["key"], each["operator"]
        if operator in _WITH_VALUES:
            parts.append(f"{key} {_WITH_VALUES[operator]} ({','.join(sorted(each['values']))})")
        else:
            parts.append(f"{_WITHOUT_VALUES[operator]}{key}")
    return ",".join(sorted(parts))


def _wrong_requirement(requirement: Any, path: str) -> list[FieldError]:
    if not isinstance(requirement, Mapping):
        return [invalid(str(requirement)[:_SHOWN_MAX], path, "expected key, operator and values")]
    operator, values = requirement.get("operator"), requirement.get("values") or []
    errors = _wrong_key(str(requirement.get("key") or ""), f"{path}.key")
    if operator in _WITHOUT_VALUES:
        return errors + ([disallowed(f"{path}.values")] if values else [])
    if operator not in _WITH_VALUES:
        details = f"expected {', '.join([*_WITH_VALUES, *_WITHOUT_VALUES])}"
        return [*errors, invalid(str(operator)[:_SHOWN_MAX], f"{path}.operator", details)]
    if not values:
        return [*errors, missing(f"{path}.values")]
    wrong = [_wrong_value(each, f"{path}.values[{index}]") for index, each in enumerate(values)]
    return errors + [each for errors_of_one in wrong for each in errors_of_one]


def _wrong_key(key: str, path: str) -> list[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if _NAME(name) and (not slash or _PREFIX(prefix)):
        return []
    return [invalid(key[:_SHOWN_MAX], path, _KEY_RULE)]


def _wrong_value(value: Any, path: str) -> list[FieldError]:
    if isinstance(value, str) and (not value or _NAME(value)):
        return []
    return [invalid(str(value)[:_SHOWN_MAX], path, _VALUE_RULE)]
