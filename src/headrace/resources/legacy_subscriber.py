"""The subscriber of Knative 0.5 to 0.7, in Subscriptions and Triggers: an object (`ref`), the name
of a host (`dnsName`) or a URL (`uri`); and the destination that it became.
"""

from collections.abc import Mapping
from typing import Any

from headrace.domain.field_errors import FieldError, both_given


def url_of_dns_name(dns_name: str) -> str:
    """The URL that Knative 0.5 called for a `dnsName`."""
    return f"http://{dns_name}/"


def destination_of(subscriber: Mapping[str, Any]) -> Mapping[str, Any]:
    """The subscriber with a `uri` for its `dnsName`, which stays; the subscriber itself if it needs
    none.
    """
    dns_name = subscriber.get("dnsName")
    if (
        not isinstance(dns_name, str)
        or not dns_name
        or subscriber.get("ref")
        or subscriber.get("uri")
    ):
        return subscriber
    return {**subscriber, "uri": url_of_dns_name(dns_name)}


def two_given(subscriber: Any, path: str, *, converted: bool = False) -> list[FieldError]:
    """The errors of a subscriber with a `dnsName` and something else. In one that was `converted`
    the URL of the `dnsName` is beside it.
    """
    if not isinstance(subscriber, Mapping) or not subscriber.get("dnsName"):
        return []
    uri, dns_name = subscriber.get("uri"), str(subscriber["dnsName"])
    if subscriber.get("ref"):
        return [both_given(f"{path}.dnsName", f"{path}.ref")]
    if uri and not (converted and uri == url_of_dns_name(dns_name)):
        return [both_given(f"{path}.dnsName", f"{path}.uri")]
    return []
