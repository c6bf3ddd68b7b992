"""The controller's API: the Kubernetes paths and JSON for the kinds of a registry, without a cluster.

Which kinds there are is the registry's affair and what they demand is admission's; this module knows only verbs, paths and bodies.
Loopback by default and without authentication, it refuses what a web page in somebody's browser could send: bodies that are not JSON or
YAML, and (on loopback) Host headers that are not this machine's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace import __version__
from headrace.adapters.manifests import InvalidManifest, read_manifests
from headrace.codec.objects import BYTES_MAX, InvalidObject, ObjectTooLarge, read_object, write_object
from headrace.domain.admission import admit
from headrace.domain.control_ports import ResourceStore
from headrace.domain.errors import Conflict, HeadraceError
from headrace.domain.resource_rules import Precondition
from headrace.domain.resources import KindRegistry, Resource, ResourceKind
from headrace.runtime.health import Health
from headrace_controller.api_errors import JSON, ApiError, error_response, status_response

log = structlog.stdlib.get_logger("headrace.controller.api")

_BODY_SECONDS = 15.0
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
_LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]"))
_REPLACE_TURNS = 5
_UNSUPPORTED = ("watch", "labelSelector", "fieldSelector", "dryRun")
Handler = Callable[[Request], Awaitable[Response]]


def controller_api(store: ResourceStore, kinds: KindRegistry, health: Health, *, loopback: bool) -> FastAPI:
    """The application. `loopback`: it listens on a loopback address, so Host must name one."""
    app = FastAPI(title="Headrace controller", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    doors = _Doors(store, kinds)
    for prefix in ("/apis/{group}/{version}", "/api/{version}"):
        app.add_api_route(prefix + "/{plural}", doors.list, methods=["GET"])
        app.add_api_route(prefix + "/namespaces/{namespace}/{plural}", doors.list, methods=["GET"])
        app.add_api_route(prefix + "/namespaces/{namespace}/{plural}", doors.create, methods=["POST"])
        one = prefix + "/namespaces/{namespace}/{plural}/{name}"
        app.add_api_route(one, doors.get, methods=["GET"])
        app.add_api_route(one, doors.replace, methods=["PUT"])
        app.add_api_route(one, doors.delete, methods=["DELETE"])
        app.add_api_route(one + "/status", doors.get, methods=["GET"])
        app.add_api_route(one + "/status", doors.replace_status, methods=["PUT"])
    _add_probes(app, health)
    _add_guards(app, loopback=loopback)
    return app


def _add_probes(app: FastAPI, health: Health) -> None:
    async def alive(verbose: str | None = None) -> Response:
        return PlainTextResponse(health.liveness().text(verbose=verbose is not None) + "\n")

    async def ready(verbose: str | None = None) -> Response:
        report = health.readiness()
        return PlainTextResponse(report.text(verbose=verbose is not None) + "\n", status_code=200 if report.passed else 503)

    async def version() -> dict[str, str]:
        major, minor, *_ = __version__.split(".")
        return {"major": major, "minor": minor, "gitVersion": f"v{__version__}", "platform": "headrace"}

    app.add_api_route("/livez", alive, methods=["GET"])
    app.add_api_route("/healthz", alive, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"])
    app.add_api_route("/version", version, methods=["GET"])


def _add_guards(app: FastAPI, *, loopback: bool) -> None:
    async def refused(_request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            # A route or verb that does not exist.
            message = "the server could not find the requested resource" if error.status_code == 404 else str(error.detail)
            return status_response(error.status_code, message, headers=error.headers)
        return error_response(error)

    for kind in (HTTPException, ApiError, HeadraceError, InvalidObject, Exception):
        app.add_exception_handler(kind, refused)
    if loopback:
        app.add_middleware(_LocalOnly)


class _LocalOnly:
    """Refuses requests whose Host is not this machine's.

    A page in somebody's browser can make a name of its own point here; it cannot choose the Host its browser sends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse one request."""
        if scope["type"] == "http" and not _is_loopback(Headers(scope=scope).get("host", "")):
            refusal = status_response(403, "this API answers to localhost only; use http://127.0.0.1:PORT")
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Doors:
    """One method per verb, for every kind."""

    def __init__(self, store: ResourceStore, kinds: KindRegistry) -> None:
        self._store = store
        self._kinds = kinds

    async def list(self, request: Request) -> Response:
        """GET of a collection, of one namespace or of all."""
        kind = self._kind(request)
        _refuse_parameters(request)
        position = self._store.position
        items = self._store.list(kind, request.path_params.get("namespace"))
        body = {
            "apiVersion": kind.api_version,
            "kind": f"{kind.kind}List",
            "metadata": {"resourceVersion": position},
            "items": [item.object for item in items],
        }
        return _answer(body)

    async def get(self, request: Request) -> Response:
        """GET of one resource, or of its status endpoint."""
        return await self._about(request, self._get)

    async def create(self, request: Request) -> Response:
        """POST to a collection."""
        _refuse_parameters(request)
        return await self._about(request, self._create)

    async def replace(self, request: Request) -> Response:
        """PUT of one resource."""
        _refuse_parameters(request)
        return await self._about(request, self._replace)

    async def replace_status(self, request: Request) -> Response:
        """PUT of a status."""
        _refuse_parameters(request)
        return await self._about(request, self._replace_status)

    async def delete(self, request: Request) -> Response:
        """DELETE of one resource."""
        _refuse_parameters(request)
        return await self._about(request, self._delete)

    async def _about(self, request: Request, work: Callable[[Request, ResourceKind], Awaitable[Response]]) -> Response:
        kind = self._kind(request)
        try:
            return await work(request, kind)
        except (HeadraceError, InvalidObject, ApiError) as error:
            return error_response(error, kind, request.path_params.get("name", ""))

    def _kind(self, request: Request) -> ResourceKind:
        path = request.path_params
        kind = self._kinds.of_path(path.get("group", ""), path["version"], path["plural"])
        if kind is None:
            raise ApiError(404, "the server could not find the requested resource")
        if not kind.has_status and request.url.path.endswith("/status"):
            raise ApiError(404, "the server could not find the requested resource")
        return kind

    async def _get(self, request: Request, kind: ResourceKind) -> Response:
        path = request.path_params
        return _answer(self._store.get(kind, path["namespace"], path["name"]).object)

    async def _create(self, request: Request, kind: ResourceKind) -> Response:
        wanted = admit(_in_path(await _read(request), kind, request.path_params["namespace"], None))
        return _answer((await self._store.create(wanted)).object, 201)

    async def _replace(self, request: Request, kind: ResourceKind) -> Response:
        path = request.path_params
        wanted = _in_path(await _read(request), kind, path["namespace"], path["name"])
        for turn in range(_REPLACE_TURNS):
            old = self._store.get(kind, path["namespace"], path["name"])
            admitted = admit(wanted, old=old)
            if not wanted.version:
                # What must not change was compared with this version, so this is the one to replace.
                admitted = admitted.with_metadata(resourceVersion=old.version)
            try:
                new = await self._store.replace(admitted)
                return _answer((new or admitted).object)
            except Conflict:
                if wanted.version or turn == _REPLACE_TURNS - 1:
                    raise
        raise AssertionError("the last turn returns or raises")

    async def _replace_status(self, request: Request, kind: ResourceKind) -> Response:
        path = request.path_params
        wanted = _in_path(await _read(request), kind, path["namespace"], path["name"])
        if not isinstance(wanted.object.get("status", {}), dict):
            raise ApiError(400, "status must be an object")
        return _answer((await self._store.replace_status(wanted)).object)

    async def _delete(self, request: Request, kind: ResourceKind) -> Response:
        path = request.path_params
        options = await _read(request, optional=True)
        preconditions = options.get("preconditions") or {}
        uid = preconditions.get("uid") if isinstance(preconditions, dict) else None
        old = self._store.get(kind, path["namespace"], path["name"])
        left = await self._store.delete(kind, path["namespace"], path["name"], precondition=Precondition(uid=str(uid) if uid else None))
        if left is not None:
            return _answer(left.object)
        details = {"name": old.name, "group": kind.group, "kind": kind.plural, "uid": old.uid}
        return _answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _answer(body: Any, code: int = 200) -> Response:
    return Response(write_object(body), status_code=code, media_type=JSON)


def _refuse_parameters(request: Request) -> None:
    """Refuse what would change the meaning of a request and is not built: to ignore it would be to answer another question."""
    asked = [name for name in _UNSUPPORTED if request.query_params.get(name) not in (None, "", "false", "0")]
    if asked:
        raise ApiError(400, f"this API does not know {', '.join(asked)} yet")


async def _read(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The body as an object. Raises ApiError, InvalidObject, ObjectTooLarge."""
    text = await _body(request)
    if not text and optional:
        return {}
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == JSON:
        return read_object(text)
    if content_type in _YAML:
        try:
            # Reading YAML takes milliseconds per kilobyte: not on the loop.
            documents = await asyncio.to_thread(read_manifests, text, "body")
        except InvalidManifest as error:
            raise InvalidObject(str(error)) from error
        if len(documents) != 1:
            raise InvalidObject(f"the body holds {len(documents)} documents, one is needed")
        return documents[0].document
    raise ApiError(415, f"the body of the request was in an unknown format - accepted media types include: {', '.join((JSON, *_YAML))}")


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > BYTES_MAX:
        raise ObjectTooLarge(f"{length} bytes; limit is {BYTES_MAX}")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > BYTES_MAX:
                    raise ObjectTooLarge(f"more than {BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError as error:
        raise ApiError(408, f"the body did not arrive within {_BODY_SECONDS:g} s") from error
    return b"".join(parts)


def _in_path(document: dict[str, Any], kind: ResourceKind, namespace: str, name: str | None) -> Resource:
    """The body as a resource of this path; raises ApiError when it names another."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise ApiError(400, "metadata with a name is needed")
    for field, expected in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if document.get(field, expected) != expected:
            raise ApiError(400, f"the {field} in the data ({document[field]!s:.100}) does not match the expected {field} ({expected})")
    if metadata.get("namespace", namespace) not in (namespace, None, ""):
        raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
    if name is not None and metadata.get("name") != name:
        raise ApiError(400, f"the name of the object ({metadata.get('name')!s:.300}) does not match the name on the URL ({name})")
    whole = {**document, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {**metadata, "namespace": namespace}}
    return Resource(kind, whole)


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.lower() in _LOOPBACK_HOSTS


def served(kinds: Iterable[ResourceKind]) -> list[str]:
    """What is served, for a log line."""
    return sorted(kind.qualified for kind in kinds if kind.served)
