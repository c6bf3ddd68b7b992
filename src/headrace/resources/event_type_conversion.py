"""An EventType in another of its versions.

The versions say the same in two ways: up to v1beta2 type, source and schema are fields, from
v1beta3 on they are in a list of attributes. The schemas of all versions have both (see
charts/headrace/files/crds/eventtype.yaml), so nothing is lost: what the older form cannot express
stays in its `attributes`, and an object that is converted to another version and back is the same
object.
"""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]

_FIELDS = {"type": "type", "source": "source", "schemadata": "schema"}
"""Field of the older versions by the attribute that holds its value."""
_REQUIRED = ("specversion", "type", "source", "id")
"""Attributes that every event has, in the order in which conversion lists them."""


def convert_spec(spec: Document, before: str, after: str) -> Document:
    """The spec of version `before` in version `after`."""
    with_fields, wants_fields = before != "v1beta3", after != "v1beta3"
    if with_fields == wants_fields:
        return spec
    return _with_fields(spec) if wants_fields else _with_attributes(spec)


def _with_attributes(spec: Document) -> Document:
    """A v1beta3 spec from an older one."""
    made = {name: value for name, value in spec.items() if name not in _FIELDS.values()}
    values = {
        attribute: str(spec[field]) for attribute, field in _FIELDS.items() if spec.get(field)
    }
    stated = spec.get("attributes")
    if not isinstance(stated, list):
        made["attributes"] = _attributes(values)
    elif values:
        there = {each.get("name") for each in stated if isinstance(each, Mapping)}
        made["attributes"] = [_valued(each, values) for each in stated if _is_kept(each, values)]
        made["attributes"] += [
            each for each in _attributes(values) if each["name"] in values.keys() - there
        ]
    return made


def _with_fields(spec: Document) -> Document:
    """A spec of an older version from a v1beta3 one."""
    attributes = spec.get("attributes")
    if not isinstance(attributes, list):
        return spec
    found = {
        each["name"]: str(each["value"])
        for each in attributes
        if isinstance(each, Mapping) and each.get("name") and each.get("value")
    }
    values = {attribute: found[attribute] for attribute in _FIELDS if attribute in found}
    made = {**spec, **{_FIELDS[attribute]: value for attribute, value in values.items()}}
    if attributes == _attributes(values):
        # The fields say all of it.
        del made["attributes"]
    return made


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """The attributes that correspond to the fields of an older version."""
    made = [_valued({"name": name, "required": True}, values) for name in _REQUIRED]
    if "schemadata" in values:
        made.append({"name": "schemadata", "required": False, "value": values["schemadata"]})
    return made


def _valued(attribute: Any, values: Mapping[str, str]) -> Any:
    """An attribute with the present value of its field."""
    if not isinstance(attribute, Mapping) or attribute.get("name") not in _FIELDS:
        return attribute
    kept = {key: value for key, value in attribute.items() if key != "value"}
    value = values.get(attribute["name"])
    return {**kept, "value": value} if value else kept


def _is_kept(attribute: Any, values: Mapping[str, str]) -> bool:
    """False for the schema of an event type that was removed through an older version."""
    gone = (
        isinstance(attribute, Mapping)
        and attribute.get("name") == "schemadata"
        and attribute.get("value")
    )
    return not gone or "schemadata" in values
