"""Destinations: where events are sent, as manifests specify it (`ref`, `uri`, or a `uri` relative
to the `ref`), and the URL it resolves to.

Rules and messages are those of Knative's Destination. In a cluster the address of a `v1` Service is
its DNS name, without a lookup; without a cluster it is its `spec.externalName` and first port.
Every other kind must have `status.address`. The data plane only gets the resulting URL.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from headrace.domain.field_errors import FieldError, both_given, invalid, missing, none_given
from headrace.domain.routing import Destination
from headrace.domain.target_url import UnsupportedScheme, parse_target_url
from headrace.resources.json_shapes import Shape

Lookup = Callable[[str, str, str, str], Mapping[str, Any] | None]
"""(apiVersion, kind, namespace, name) to the object of that name, None if there is none."""

REF_SHAPE: Shape = {
    "apiVersion": str,
    "kind": str,
    "name": str,
    "namespace": str,
    "address": str,
    "group": str,
}
DESTINATION_SHAPE: Shape = {"ref": REF_SHAPE, "uri": str, "CACerts": str, "audience": str}

REPLACED_VERSIONS: Mapping[str, str] = {
    "serving.knative.dev/v1alpha1": "serving.knative.dev/v1",
    "serving.knative.dev/v1beta1": "serving.knative.dev/v1",
}
"""Versions of Knative Serving's kinds that manifests of 2019 name and that are no longer served,
and the one that has taken their place.
"""
_HTTP_PORT, _HTTPS_PORT = 80, 443
_CA_BYTES_MAX = 64 * 1024
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Unresolved(Exception):
    """The destination has no URL at the moment; the message says why, with Knative's text if there
    is one.
    """


def default(destination: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    """Set `ref.namespace` to the object's own namespace."""
    ref = destination.get("ref")
    if isinstance(ref, Mapping) and not ref.get("namespace"):
        return {**destination, "ref": {**ref, "namespace": namespace}}
    return destination


def validate(destination: Any, path: str, *, grouped: bool = False) -> list[FieldError]:
    """The errors of a destination at `path`; `grouped` is the feature `kreference-group`."""
    if not isinstance(destination, Mapping):
        return (
            [missing(path)]
            if destination is None
            else [invalid(type(destination).__name__, path, "expected ref, uri or both")]
        )
    ref, uri = destination.get("ref"), destination.get("uri")
    if not ref and not uri:
        return [none_given(f"{path}.ref", f"{path}.uri")]
    errors = [*_wrong_uri(uri, bool(ref), path), *_wrong_ca(destination.get("CACerts"), path)]
    if ref:
        errors += validate_ref(ref, f"{path}.ref", grouped=grouped)
    return errors


def validate_ref(ref: Any, path: str, *, grouped: bool = False) -> list[FieldError]:
    """The errors of a reference to an object: name, kind and apiVersion are required; with
    `grouped`, `group` may replace the last.
    """
    if not isinstance(ref, Mapping):
        return [invalid(type(ref).__name__, path, "expected apiVersion, kind and name")]
    absent = [f"{path}.{name}" for name in ("name", "kind") if not ref.get(name)]
    errors = []
    if ref.get("group") and ref.get("apiVersion"):
        errors.append(both_given(f"{path}.apiVersion", f"{path}.group"))
    elif not ref.get("apiVersion") and not (grouped and ref.get("group")):
        absent += [f"{path}.apiVersion", f"{path}.group"] if grouped else [f"{path}.apiVersion"]
    errors += [missing(*absent)] if absent else []
    errors += [
        invalid(type(value).__name__, f"{path}.{key}", "expected text")
        for key, value in ref.items()
        if not isinstance(value, str)
    ]
    return errors


def resolve(
    destination: Mapping[str, Any], *, namespace: str, cluster_domain: str | None, lookup: Lookup
) -> Destination:
    """The URL of a valid destination. `namespace` is the object's own; `cluster_domain` is empty if
    there is no cluster with DNS.

    Raises Unresolved.
    """
    ref, uri = destination.get("ref"), destination.get("uri")
    ca_certs = destination.get("CACerts")
    if not ref:
        return _checked(
            Destination(url=str(uri), ca_certs=ca_certs, audience=destination.get("audience"))
        )
    found = _address(
        {**ref, "namespace": ref.get("namespace") or namespace},
        cluster_domain,
        lookup,
        secure=bool(ca_certs),
    )
    try:
        url = urljoin(str(found["url"]), str(uri)) if uri else str(found["url"])
    except ValueError as error:
        raise Unresolved(f"{str(found['url'])[:200]}: {error}") from error
    return _checked(
        Destination(
            url=url,
            ca_certs=ca_certs or _text(found.get("CACerts")),
            audience=destination.get("audience") or _text(found.get("audience")),
        )
    )


def unsupported(url: str, path: str) -> str:
    """Why a valid URL can never be called, and how to change the field at `path`; empty if it can
    be called.
    """
    try:
        parse_target_url(url)
    except UnsupportedScheme:
        return f"{url[:200]} can never be called, only http and https URLs can; change {path}"
    except ValueError:
        return ""
    return ""


def unsupported_uri(destination: Any, path: str) -> str:
    """`unsupported` for the absolute `uri` of a destination as written; empty if it has none."""
    uri = (
        destination.get("uri")
        if isinstance(destination, Mapping) and not destination.get("ref")
        else None
    )
    return unsupported(uri, f"{path}.uri") if isinstance(uri, str) else ""


def api_version_of(ref: Mapping[str, Any]) -> str:
    """The apiVersion of a reference, also of one with `group` only; the version is then a guess,
    because objects are looked up by group. One that is no longer served is replaced.
    """
    version, group = str(ref.get("apiVersion") or ""), str(ref.get("group") or "")
    if not version and group:
        return f"{group}/v1"
    return REPLACED_VERSIONS.get(version, version)


def _address(
    ref: Mapping[str, Any], cluster_domain: str | None, lookup: Lookup, *, secure: bool
) -> Mapping[str, Any]:
    api_version = api_version_of(ref)
    kind, namespace, name = (str(ref.get(key) or "") for key in ("kind", "namespace", "name"))
    service = (api_version, kind) == ("v1", "Service")
    if service and cluster_domain is not None:
        return {"url": f"{'https' if secure else 'http'}://{name}.{namespace}.svc.{cluster_domain}"}
    found = lookup(api_version, kind, namespace, name)
    if found is None:
        raise Unresolved(
            f'{_qualified(api_version, kind)} "{name}" not found in namespace "{namespace}"'
        )
    if service:
        return {"url": _external_url(found, f"{namespace}/{name}", secure=secure)}
    status = found.get("status")
    status = status if isinstance(status, Mapping) else {}
    shown = (
        f"&ObjectReference{{Kind:{kind},Namespace:{namespace},Name:{name},"
        f"APIVersion:{api_version},}}"
    )
    address = _chosen(status, str(ref.get("address") or ""), shown)
    if not isinstance(address, Mapping):
        raise Unresolved(f"address not set for {shown}")
    if not address.get("url"):
        raise Unresolved(f"URL missing in address of {shown}")
    return address


def _external_url(service: Mapping[str, Any], shown: str, *, secure: bool) -> str:
    """The address of a Service without a cluster: its external name and first port, with https if
    the port says so.
    """
    spec = service.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    host = spec.get("externalName")
    if not host or not isinstance(host, str):
        raise Unresolved(
            f"Service {shown} has no spec.externalName, and without a cluster it has no"
            " other address"
        )
    ports = spec.get("ports")
    first = ports[0] if isinstance(ports, list) and ports and isinstance(ports[0], Mapping) else {}
    number, names = (
        first.get("port"),
        (first.get("appProtocol"), str(first.get("name") or "").partition("-")[0]),
    )
    scheme = "https" if secure or number == _HTTPS_PORT or "https" in names else "http"
    return f"{scheme}://{host}" + (
        "" if number in (None, _HTTPS_PORT if scheme == "https" else _HTTP_PORT) else f":{number}"
    )


def _text(value: Any) -> str | None:
    return value if value and isinstance(value, str) else None


def _chosen(status: Mapping[str, Any], wanted: str, shown: str) -> Any:
    listed = status.get("addresses")
    addresses = (
        [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    )
    if wanted:
        for each in addresses:
            if each.get("name") == wanted:
                return each
        raise Unresolved(f'address with name "{wanted}" not found for {shown}')
    return addresses[0] if addresses else status.get("address")


def _checked(destination: Destination) -> Destination:
    try:
        parse_target_url(destination.url)
    except UnsupportedScheme:
        return destination  # Knative accepts it too; its events become dead letters.
    except ValueError as error:
        # The text before an @ may be a password.
        shown = destination.url.rpartition("@")[2][:200]
        raise Unresolved(f"{shown}: {error}") from error
    return destination


def _wrong_uri(uri: Any, has_ref: bool, path: str) -> list[FieldError]:
    if uri is None or uri == "":
        return []
    if not isinstance(uri, str):
        return [invalid(type(uri).__name__, f"{path}.uri", "expected text")]
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return [invalid(uri[:200], f"{path}.uri", str(error))]
    absolute = bool(parts.scheme)
    if has_ref and absolute:
        return [
            FieldError(
                "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present",
                (
                    f"{path}.apiVersion",
                    f"{path}.kind",
                    f"{path}.name",
                    f"{path}.ref",
                    f"{path}.uri",
                ),
            )
        ]
    if not has_ref and not (absolute and parts.netloc):
        return [
            invalid(
                "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
                f"{path}.uri",
            )
        ]
    if not has_ref:
        try:
            parse_target_url(uri)
        except UnsupportedScheme:
            return []
        except ValueError as error:
            return [invalid(uri[:200], f"{path}.uri", str(error))]
    return []


def _wrong_ca(ca_certs: Any, path: str) -> list[FieldError]:
    if ca_certs is None:
        return []
    # The last segment is lower case in Knative's message; scripts match it.
    where = f"{path}.caCert"
    if not isinstance(ca_certs, str) or len(ca_certs) > _CA_BYTES_MAX or _PEM_BEGIN not in ca_certs:
        return [invalid("CA Cert provided is invalid", where)]
    for block in ca_certs.split(_PEM_BEGIN)[1:]:
        body, end, _ = block.partition(_PEM_END)
        try:
            certificate = b64decode("".join(body.split()), validate=True)
        except (Base64Error, ValueError):
            return [invalid("CA Cert provided is invalid", where)]
        # A certificate is a DER sequence; its contents are checked when a connection is made.
        if not end or not certificate.startswith(b"\x30"):
            return [invalid("CA Cert provided is not a certificate", where)]
    return []


def _qualified(api_version: str, kind: str) -> str:
    group = api_version.rpartition("/")[0]
    plural = f"{kind.lower()}s"
    return f"{plural}.{group}" if group else plural
