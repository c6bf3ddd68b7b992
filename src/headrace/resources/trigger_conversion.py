"""A Trigger in another of its versions.

`v1alpha1` (Knative 0.5 to 0.13) has `filter.sourceAndType`, whose empty texts match anything, and
`subscriber.dnsName`; `v1` has `filter.attributes` and `subscriber.uri` in their place. The schemas
of both versions have all of them (see charts/headrace/files/crds/trigger.yaml), so nothing is lost:
an object that is converted to the other version and back is the same object. For that, what
conversion cannot derive from the field of `v1` stays beside it: a `dnsName`, and a `sourceAndType`
that is not written with both texts. An empty one beside attributes says that they were written as
attributes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.resources.legacy_subscriber import destination_of, url_of_dns_name

Document = Mapping[str, Any]

OLD_VERSION = "v1alpha1"
_SOURCE_AND_TYPE = ("type", "source")


def convert_spec(spec: Document, before: str, after: str) -> Document:
    """The spec of version `before` in version `after`."""
    if (before == OLD_VERSION) == (after == OLD_VERSION):
        return spec
    if after == OLD_VERSION:
        return _converted(spec, _old_filter, _old_subscriber)
    return _converted(spec, _new_filter, destination_of)


def todays_spec(spec: Document) -> Document:
    """A stored spec with the fields of `v1`; the spec itself if it has them. Without conversion a
    spec is stored as it was written. A field of `v1` that is set decides.
    """
    return _converted(spec, _with_attributes, destination_of)


def attributes_of(source_and_type: Document) -> dict[str, str]:
    """The attributes that `sourceAndType` requires: those with a text."""
    return {
        name: str(source_and_type[name]) for name in _SOURCE_AND_TYPE if source_and_type.get(name)
    }


def _converted(
    spec: Document,
    convert_filter: Callable[[Document], Document],
    convert_subscriber: Callable[[Document], Document],
) -> Document:
    """The spec with its filter and its subscriber converted, as far as they are objects."""
    made = dict(spec)
    for name, convert in (("filter", convert_filter), ("subscriber", convert_subscriber)):
        if isinstance(spec.get(name), Mapping):
            made[name] = convert(spec[name])
    return made if made != spec else spec


def _with_attributes(filter_: Document) -> Document:
    """A filter with the attributes that its `sourceAndType` requires."""
    stated = filter_.get("sourceAndType")
    if not isinstance(stated, Mapping) or filter_.get("attributes"):
        return filter_
    return {**filter_, "attributes": attributes_of(stated)}


def _new_filter(filter_: Document) -> Document:
    """A filter of `v1` from one of `v1alpha1`."""
    if "sourceAndType" not in filter_:
        written = _source_and_type(filter_.get("attributes")) is not None
        return {**filter_, "sourceAndType": {}} if written else filter_
    made = _with_attributes(filter_)
    if made["sourceAndType"] != _source_and_type(made.get("attributes")):
        return made
    return {name: value for name, value in made.items() if name != "sourceAndType"}


def _old_filter(filter_: Document) -> Document:
    """A filter of `v1alpha1` from one of `v1`."""
    stated, attributes = filter_.get("sourceAndType"), filter_.get("attributes")
    derived = _source_and_type(attributes)
    if isinstance(stated, Mapping):
        if attributes_of(stated) == attributes:
            return {name: value for name, value in filter_.items() if name != "attributes"}
        # Written as attributes, or changed through v1 since.
        return {name: value for name, value in filter_.items() if name != "sourceAndType"}
    if derived is None:
        return filter_
    made = {name: value for name, value in filter_.items() if name != "attributes"}
    return {**made, "sourceAndType": derived}


def _source_and_type(attributes: Any) -> dict[str, str] | None:
    """The `sourceAndType` with both texts that requires these attributes; None if there are none,
    or others than type and source.
    """
    if (
        not isinstance(attributes, Mapping)
        or not attributes
        or not all(name in _SOURCE_AND_TYPE and value for name, value in attributes.items())
    ):
        return None
    return {name: str(attributes.get(name, "")) for name in _SOURCE_AND_TYPE}


def _old_subscriber(subscriber: Document) -> Document:
    """A subscriber of `v1alpha1` from one of `v1`: without the URL that stands for its `dnsName`,
    or without the `dnsName` if the URL was changed through `v1`.
    """
    dns_name, uri = subscriber.get("dnsName"), subscriber.get("uri")
    if not dns_name or not uri:
        return subscriber
    left_out = "uri" if uri == url_of_dns_name(str(dns_name)) else "dnsName"
    return {name: value for name, value in subscriber.items() if name != left_out}
