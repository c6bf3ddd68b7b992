"""The events of ApiServerSource and KubernetesEventSource. (pure)

Attributes and data are those of Knative's adapter, except `id`: it is made of the object's uid and
version, so that a change that is sent twice has the same one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from headrace.adapters.kubernetes.watcher import ApiKind
from headrace.domain.event import Event
from headrace_sources.source import new_event

KUBERNETES_EVENT_TYPE: Final = "dev.knative.k8s.event"
_JSON: Final = "application/json"


class Mode(StrEnum):
    """What an event carries."""

    REFERENCE = "Reference"
    """The name of the object."""
    RESOURCE = "Resource"
    """The object."""
    KUBERNETES_EVENT = "KubernetesEvent"
    """The object, which is an Event of the core API, as KubernetesEventSource sends it."""


_FORMS: Final = {Mode.REFERENCE: "ref", Mode.RESOURCE: "resource"}


class Verb(StrEnum):
    """What has happened to an object."""

    ADD = "add"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class EventFormat:
    """How one source makes events."""

    mode: Mode
    server: str
    """URL of the API server."""
    uid: str
    """Uid of the source: two sources send distinct events of the same change."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the events."""
        if self.mode is Mode.KUBERNETES_EVENT:
            return (KUBERNETES_EVENT_TYPE,)
        return tuple(self._type(verb) for verb in Verb)

    def make(self, kind: ApiKind, verb: Verb, found: Mapping[str, Any], time: str) -> Event | None:
        """Return the event of a change, None if none is sent. `time` is now, in RFC 3339 form."""
        document = {**found, "apiVersion": kind.api_version, "kind": kind.kind}
        metadata: Mapping[str, Any] = found.get("metadata") or {}
        uid, version = str(metadata.get("uid") or ""), str(metadata.get("resourceVersion") or "")
        if self.mode is Mode.KUBERNETES_EVENT:
            return _kubernetes_event(verb, document, uid, version)
        name, namespace = str(metadata.get("name") or ""), str(metadata.get("namespace") or "")
        if self.mode is Mode.REFERENCE:
            reference = {"kind": kind.kind, "namespace": namespace, "name": name}
            reference["apiVersion"] = kind.api_version
            document = {key: value for key, value in reference.items() if value}
        return new_event(
            self._type(verb),
            self.server,
            _data(document),
            id=f"{self.uid}/{uid or f'{namespace}/{name}'}/{version}/{verb}",
            content_type=_JSON,
            time=time,
            subject=f"/apis/{kind.api_version}/namespaces/{namespace}/{kind.plural}/{name}",
            kind=kind.kind,
            apiversion=kind.api_version,
            name=name,
            namespace=namespace or None,
        )

    def _type(self, verb: Verb) -> str:
        return f"dev.knative.apiserver.{_FORMS[self.mode]}.{verb}"


def is_controlled_by(found: Mapping[str, Any], api_version: str, kind: str) -> bool:
    """Whether the controller that owns an object is of this kind."""
    owners = (found.get("metadata") or {}).get("ownerReferences") or ()
    return any(
        each.get("controller") is True
        and (each.get("apiVersion"), each.get("kind")) == (api_version, kind)
        for each in owners
    )


def _kubernetes_event(
    verb: Verb, document: Mapping[str, Any], uid: str, version: str
) -> Event | None:
    """As Knative 0.5: the source is the object that the Event is about. An Event that expires is
    none; one that is counted again is another event with another id.
    """
    if verb is Verb.DELETE:
        return None
    created = (document.get("metadata") or {}).get("creationTimestamp")
    return new_event(
        KUBERNETES_EVENT_TYPE,
        _self_link(document.get("involvedObject") or {}),
        _data(document),
        id=uid if verb is Verb.ADD else f"{uid}/{version}",
        content_type=_JSON,
        time=str(created) if created else None,
    )


def _self_link(reference: Mapping[str, Any]) -> str:
    api_version = str(reference.get("apiVersion") or "v1")
    namespace, name = (str(reference.get(each) or "") for each in ("namespace", "name"))
    plural = _guessed_plural(str(reference.get("kind") or ""))
    return f"/apis/{api_version}/namespaces/{namespace}/{plural}/{name}"


def _guessed_plural(kind: str) -> str:
    """As the Kubernetes API machinery guesses it: the reference has no plural."""
    singular = kind.lower()
    if singular.endswith("s"):
        return f"{singular}es"
    return f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}s"


def _data(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
