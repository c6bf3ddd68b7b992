"""Lists and watches objects of any kind of a Kubernetes API, for data plane processes, which do not
know resources: objects are JSON as the API has them.

The controller's own client (`client.py`) reads the kinds that the controller knows, with its own
rights. Here a kind is found by discovery, a watch gets bookmarks, and the identity may be another
service account.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx2
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import PROXY_CONF, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError

from headrace.adapters.kubernetes.connection import CALL_SECONDS, ApiServerCertificates
from headrace.domain.errors import NotFound, Permanent, Temporary

PAGE: Final = 500
WATCH_SECONDS: Final = 240
"""How long the server keeps a watch open. It is opened again after that, so that a connection that
is dead without a sign is noticed.
"""
_GRACE_SECONDS: Final = 30.0
LINE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of one event of a watch."""
CONNECTIONS_MAX: Final = 600
TOKEN_SECONDS: Final = 3600
_METADATA_ONLY: Final = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


class Refused(Permanent):
    """The API server does not let this identity do that (401, 403)."""


class VersionExpired(Temporary):
    """The API server no longer has the changes since a resourceVersion, or has never had them."""


@dataclass(frozen=True, slots=True)
class ApiKind:
    """A kind as discovery has it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        """Its API group; empty for a core kind."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    def path(self, namespace: str | None) -> str:
        """Path of the collection in a namespace, or of all objects."""
        root = f"{_root(self.api_version)}/"
        if self.namespaced and namespace is not None:
            root += f"namespaces/{namespace}/"
        return root + self.plural


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: Sequence[Mapping[str, Any]]
    version: str
    next: str
    """Token of the next page; empty on the last one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: str
    """`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`."""
    object: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a service account, and for how many seconds it is valid."""

    value: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is listed or watched."""

    kind: ApiKind
    namespace: str | None
    labels: str = ""
    """Label selector; empty for every object."""
    metadata_only: bool = False
    """Whether the server leaves out everything but `metadata`."""

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of each request."""
        return {"labelSelector": self.labels} if self.labels else {}


def config_of(
    url: str, *, token: str = "", certificate_authority: Path | None = None
) -> SingleConfig:
    """The configuration for an API server at this URL."""
    authority = str(certificate_authority.absolute()) if certificate_authority else None
    cluster = Cluster(server=url, certificate_auth=authority)
    return PROXY_CONF._replace(cluster=cluster, user=User(token=token or None))


class WatchApi:
    """One API server with one identity. Every call but a watch ends within `CALL_SECONDS`.

    Raises Temporary if it may work later, Refused, NotFound, VersionExpired, and Permanent with the
    server's message for a request that it refuses.
    """

    def __init__(self, config: SingleConfig) -> None:
        """Raises Permanent."""
        self._config = config
        self.server = config.cluster.server.rstrip("/")
        try:
            single = config if config.user else config._replace(user=User())
            parameters = client_adapter.ConnectionParams(
                timeout=httpx2.Timeout(CALL_SECONDS)
            ).httpx_params(single)
            self._certificates = ApiServerCertificates(single)
            parameters["verify"] = self._certificates.context
            self._http = httpx2.AsyncClient(
                **parameters,
                limits=httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=4),
            )
        except (ConfigError, OSError) as error:
            raise Permanent(f"the kubeconfig cannot be used: {error}") from error

    def as_bearer(self, token: str) -> "WatchApi":
        """The same API server with the identity of a token."""
        return WatchApi(self._config._replace(user=User(token=token)))

    async def find(self, api_version: str, kind: str) -> ApiKind:
        """Return a kind. Raises NotFound if the API server does not serve it."""
        document = await self._call("GET", _root(api_version))
        for each in document.get("resources") or ():
            if each.get("kind") == kind and "/" not in each.get("name", "/"):
                return ApiKind(api_version, kind, each["name"], bool(each.get("namespaced")))
        raise NotFound(f"apiVersion {api_version} has no kind {kind}")

    async def list_page(self, scope: Scope, *, token: str = "") -> Page:
        """Return one page of a list, the first one without a token."""
        parameters = {**scope.parameters, "limit": str(PAGE)}
        if token:
            parameters["continue"] = token
        document = await self._call(
            "GET",
            scope.kind.path(scope.namespace),
            parameters=parameters,
            accept=_accept(scope, "PartialObjectMetadataList"),
        )
        metadata = document.get("metadata") or {}
        return Page(
            document.get("items") or (),
            str(metadata.get("resourceVersion") or ""),
            str(metadata.get("continue") or ""),
        )

    @asynccontextmanager
    async def watch(
        self, scope: Scope, version: str
    ) -> AsyncGenerator[AsyncIterator[Change], None]:
        """Open a watch of the changes after `version`; the iterator ends when the server ends it,
        or at the latest after `WATCH_SECONDS` and some grace.
        """
        parameters = {
            **scope.parameters,
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        await self._certificates.refresh()
        try:
            async with (
                asyncio.timeout(WATCH_SECONDS + _GRACE_SECONDS),
                self._http.stream(
                    "GET",
                    scope.kind.path(scope.namespace),
                    params=parameters,
                    headers={"Accept": _accept(scope, "PartialObjectMetadata")},
                    timeout=httpx2.Timeout(CALL_SECONDS, read=WATCH_SECONDS + _GRACE_SECONDS),
                ) as response,
            ):
                if response.status_code != httpx2.codes.OK:
                    await response.aread()
                    raise _error(response.status_code, _document(response))
                yield _changes(response)
        except TimeoutError:
            return
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise _unanswered(error) from error

    async def request_token(self, namespace: str, account: str) -> Token:
        """Return a token of a service account (the TokenRequest API). Raises NotFound if there is
        no such account or no such API.
        """
        document = await self._call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": TOKEN_SECONDS},
            },
        )
        status = document.get("status") or {}
        if not status.get("token"):
            raise NotFound("this API server gives no tokens of service accounts")
        # An API server may shorten or lengthen the life that was asked for.
        granted = (document.get("spec") or {}).get("expirationSeconds")
        return Token(str(status["token"]), float(granted or TOKEN_SECONDS))

    async def may(self, verb: str, kind: ApiKind, namespace: str | None) -> bool:
        """Whether this identity may do that (a SelfSubjectAccessReview)."""
        attributes = {"verb": verb, "group": kind.group, "resource": kind.plural}
        if namespace is not None:
            attributes["namespace"] = namespace
        document = await self._call(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool((document.get("status") or {}).get("allowed"))

    async def __aenter__(self) -> "WatchApi":
        """Use it as a context manager, which closes its connections."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections. Idempotent."""
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = "application/json",
    ) -> Mapping[str, Any]:
        await self._certificates.refresh()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                response = await self._http.request(
                    method,
                    path,
                    params=dict(parameters or {}),
                    json=body,
                    headers={"Accept": accept},
                )
        except (httpx2.HTTPError, httpx2.StreamError, ConfigError, OSError) as error:
            raise _unanswered(error) from error
        document = _document(response)
        if response.status_code >= httpx2.codes.BAD_REQUEST:
            raise _error(response.status_code, document)
        return document


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _accept(scope: Scope, form: str) -> str:
    return _METADATA_ONLY.format(form) if scope.metadata_only else "application/json"


async def _changes(response: httpx2.Response) -> AsyncIterator[Change]:
    # Not the library's lines: it also splits at characters that a JSON string may contain.
    buffer = bytearray()
    async for chunk in response.aiter_bytes():
        buffer += chunk
        if b"\n" in chunk:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            for line in filter(None, lines):
                yield _change(line)
        if len(buffer) > LINE_BYTES_MAX:
            raise Permanent(f"an event of a watch has more than {LINE_BYTES_MAX} bytes")


def _change(line: bytes) -> Change:
    try:
        document = json.loads(line)
        type_, found = str(document["type"]), document["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise Temporary("the API server has sent an event that is not JSON") from error
    if type_ == "ERROR":
        raise _error(int(found.get("code") or 0), found)
    return Change(type_, found)


def _document(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {"message": f"HTTP {response.status_code}"}
    return document if isinstance(document, Mapping) else {}


def _unanswered(error: Exception) -> Temporary:
    return Temporary(f"the Kubernetes API server did not answer ({type(error).__name__}: {error})")


def _error(code: int, status: Mapping[str, Any]) -> Exception:
    """Convert a Status of the API server."""
    message = str(status.get("message") or f"HTTP {code}")
    causes = (status.get("details") or {}).get("causes") or ()
    too_large = any(each.get("reason") == "ResourceVersionTooLarge" for each in causes)
    match code:
        case 401 | 403:
            return Refused(message)
        case 404 | 405:
            return NotFound(message)
        case 410:
            return VersionExpired(message)
        case _ if too_large or "Too large resource version" in message:
            return VersionExpired(message)
        case 400 | 406 | 415 | 422:
            return Permanent(message)
        case _:
            return Temporary(f"the Kubernetes API server: {message}")
