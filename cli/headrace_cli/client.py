"""Talks to the controller's API: a few verbs over urllib3, with deadlines, and errors that say what to do next."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3

from headrace.domain.resources import KindRegistry, Resource, ResourceKind

SERVER = "http://127.0.0.1:8001"
SERVER_VARIABLE = "HEADRACE_SERVER"
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 20.0
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_STANDBY_TURNS = 3


class ApiFailure(Exception):
    """The API did not do what was asked; the message names the next step where there is one."""

    def __init__(self, message: str, *, code: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class ApiClient:
    """One server."""

    def __init__(self, server: str, kinds: KindRegistry) -> None:
        """Raises ApiFailure when `server` is not an HTTP URL."""
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiFailure(f"--server {server}: give an http or https URL, such as {SERVER}")
        self._server = server.rstrip("/")
        self._kinds = kinds
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS), retries=urllib3.Retry(False, redirect=False), maxsize=2
        )

    def get(self, kind: ResourceKind, namespace: str, name: str) -> Resource | None:
        """One resource, None when there is none."""
        try:
            return Resource(kind, self._call("GET", _path(kind, namespace, name)))
        except ApiFailure as failure:
            if failure.code == 404:
                return None
            raise

    def list(self, kind: ResourceKind, namespace: str | None) -> Iterator[Resource]:
        """All of a namespace, or (None) of all."""
        found = self._call("GET", _path(kind, namespace))
        return (Resource(kind, item) for item in found.get("items") or ())

    def create(self, resource: Resource) -> Resource:
        """Create it."""
        return Resource(resource.kind, self._call("POST", _path(resource.kind, resource.namespace), resource.object))

    def replace(self, resource: Resource) -> Resource:
        """Replace it."""
        return Resource(resource.kind, self._call("PUT", _path(resource.kind, resource.namespace, resource.name), resource.object))

    def delete(self, kind: ResourceKind, namespace: str, name: str) -> bool:
        """Delete it; False when there was none."""
        try:
            self._call("DELETE", _path(kind, namespace, name))
        except ApiFailure as failure:
            if failure.code == 404:
                return False
            raise
        return True

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Accept": "application/json", "User-Agent": "headrace-cli"}
        content = None
        if body is not None:
            content = json.dumps(body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        try:
            answer = self._http.request(method, self._server + path, body=content, headers=headers, preload_content=False)
            text = answer.read(_ANSWER_BYTES_MAX + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise ApiFailure(
                f"no answer from {self._server} ({_brief(error)}); start a controller (`headrace up` or `headrace controller`), "
                f"or name another with --server or {SERVER_VARIABLE}"
            ) from error
        document = _document(text)
        if answer.status >= 400 or document is None:
            raise _failure(answer.status, document, self._server)
        return document


def _path(kind: ResourceKind, namespace: str | None, name: str = "") -> str:
    path = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    if namespace is not None:
        path += f"/namespaces/{quote(namespace, safe='')}"
    path += f"/{kind.plural}"
    return f"{path}/{quote(name, safe='')}" if name else path


def _document(text: bytes) -> dict[str, Any] | None:
    if len(text) > _ANSWER_BYTES_MAX:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _failure(code: int, document: Mapping[str, Any] | None, server: str) -> ApiFailure:
    if document is None or document.get("kind") != "Status":
        return ApiFailure(f"{server} answered {code} and not as a Headrace controller does; is --server right?", code=code)
    return ApiFailure(str(document.get("message", code)), code=code, reason=str(document.get("reason", "")))


def _brief(error: Exception) -> str:
    cause = getattr(error, "reason", None) or error
    return str(cause).rpartition(": ")[2] or type(error).__name__
