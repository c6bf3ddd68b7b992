"""The application: which handler serves which path and method, for every kind.

All kinds share a few path patterns (`/api/v1/…`, `/apis/<group>/<version>/…`), parsed by
`request_info`; which kinds exist is looked up in the catalog for each request. The response to a
request that fails is a Status.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

from headrace import __version__
from headrace.runtime.health import Health
from headrace_apiserver.authentication import Authenticator, User, reject_impersonation
from headrace_apiserver.errors import error_to_status
from headrace_apiserver.filters import HostCheck
from headrace_apiserver.handlers.create import create
from headrace_apiserver.handlers.delete import DeleteHandlers
from headrace_apiserver.handlers.discovery import DiscoveryHandler
from headrace_apiserver.handlers.get import GetHandlers
from headrace_apiserver.handlers.patch import patch
from headrace_apiserver.handlers.reviews import is_review, review
from headrace_apiserver.handlers.scale import scale_of
from headrace_apiserver.handlers.update import update
from headrace_apiserver.kinds.catalog import Catalog, ServedKind
from headrace_apiserver.max_in_flight import InFlightRequests, MaxInFlight
from headrace_apiserver.registry import ObjectRegistry
from headrace_apiserver.request_scope import RequestScope
from headrace_apiserver.requests.decoding import media_type, read_body, read_document
from headrace_apiserver.requests.options import asks_to_watch
from headrace_apiserver.requests.request_info import RequestInfo, parse_request_info
from headrace_apiserver.responses import (
    ResponseFormatter,
    add_warning_headers,
    object_response,
    status_response,
)
from headrace_apiserver.startup_write_gate import StartupWriteGate
from headrace_apiserver.statuses import StatusError, method_not_allowed, no_such_path, not_allowed

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_KUBERNETES = ("1", "32")
"""The Kubernetes version of this API: client libraries choose their requests by it."""


class RequestRouter:
    """Routes requests to handlers."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        authenticator: Authenticator,
        get_handlers: GetHandlers,
        registry: ObjectRegistry,
        startup_gate: StartupWriteGate,
        in_flight: InFlightRequests,
        now: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._authenticator = authenticator
        self._get_handlers = get_handlers
        self._registry = registry
        self._delete_handlers = DeleteHandlers(registry, get_handlers)
        self._startup_gate = startup_gate
        self._in_flight = in_flight
        self._now = now
        self._discovery = DiscoveryHandler(catalog)
        self._formatters: dict[int, tuple[ServedKind, ResponseFormatter]] = {}

    def application(self, health: Health, *, names: Container[str] | None) -> FastAPI:
        """The ASGI application. A request's Host must be a loopback one or among `names`; None: any
        Host is accepted.
        """
        app = FastAPI(
            title="Headrace controller",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
        )
        _add_probes(app, health)
        openapi = ("/openapi/v2", "/openapi/v3", "/openapi/v3/{rest:path}")
        for path in (
            "/api",
            "/apis",
            "/api/v1",
            "/apis/{group}",
            "/apis/{group}/{version}",
            *openapi,
        ):
            app.add_api_route(path, self._handle_discovery, methods=["GET"])
        app.add_api_route("/version", self._version, methods=["GET"])
        app.add_api_route("/api/{version}/{rest:path}", self._handle_resource, methods=_METHODS)
        app.add_api_route(
            "/apis/{group}/{version}/{rest:path}", self._handle_resource, methods=_METHODS
        )
        app.add_exception_handler(HTTPException, _error_response)
        app.add_exception_handler(StatusError, _error_response)
        app.add_exception_handler(Exception, _error_response)
        app.add_middleware(MaxInFlight, in_flight=self._in_flight)
        if names is not None:
            app.add_middleware(HostCheck, names=names)
        return app

    async def _version(self, request: Request) -> Response:
        major, minor = _KUBERNETES
        version_info = {
            "major": major,
            "minor": minor,
            "gitVersion": f"v{major}.{minor}.0+headrace-{__version__}",
            "platform": "headrace",
        }
        return object_response(
            {
                **version_info,
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "",
                "goVersion": "",
                "compiler": "",
            }
        )

    async def _handle_discovery(self, request: Request) -> Response:
        self._authenticate(request)
        return await self._discovery.handle(request)

    async def _handle_resource(self, request: Request) -> Response:
        user = self._authenticate(request)
        path = request.path_params
        group, version = path.get("group", ""), path["version"]
        info = parse_request_info(group, version, path["rest"])
        if info is None:
            raise no_such_path()
        if request.method == "POST" and is_review(group, version, info.plural):
            body = await read_document(await read_body(request), media_type(request))
            return object_response(review(group, info.plural, body.document, user), 201)
        scope = self._request_scope(request, info, user)
        try:
            if request.method == "GET":
                self._get_handlers.warn_if_old(scope)
            else:
                scope = replace(scope, held_seconds=await self._startup_gate.wait())
            return await self._dispatch(scope)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = status_response(error_to_status(error, scope.kind, info.name))
            return add_warning_headers(response, scope.warnings)

    def _authenticate(self, request: Request) -> User:
        certificate: Mapping[str, Any] | None = request.scope.get("client_certificate")
        user = self._authenticator.authenticate(request.headers, certificate)
        reject_impersonation(request.headers, user)
        return user

    def _request_scope(self, request: Request, info: RequestInfo, user: User) -> RequestScope:
        served = self._catalog.of_path(info.group, info.version, info.plural)
        if served is None or served.kind.namespaced < (info.namespace is not None):
            raise no_such_path()
        if info.name and served.kind.namespaced and info.namespace is None:
            raise no_such_path()
        scope = RequestScope(
            request=request, info=info, served=served, user=user, formatter=self._formatter(served)
        )
        if served.deprecation:
            scope.warnings.append(served.deprecation)
        return scope

    def _formatter(self, served: ServedKind) -> ResponseFormatter:
        """One formatter per kind. A changed definition results in another kind; the formatters of
        old ones are dropped from time to time.
        """
        found = self._formatters.get(id(served))
        if found is None or found[0] is not served:
            if len(self._formatters) > 2_000:
                self._formatters.clear()
            found = self._formatters[id(served)] = (served, ResponseFormatter(served, self._now))
        return found[1]

    async def _dispatch(self, scope: RequestScope) -> Response:
        method, info = scope.request.method, scope.info
        match info.subresource:
            case "":
                return (
                    await self._handle_object(scope, method)
                    if info.name
                    else await self._handle_collection(scope, method)
                )
            case "status" if scope.kind.has_status or info.plural == "namespaces":
                pass
            case "scale" if scope.served.scale:
                if method == "GET":
                    found = scope.formatter.convert(self._get_handlers.find(scope).object)
                    return add_warning_headers(
                        object_response(scale_of(scope.served, found)), scope.warnings
                    )
            case _:
                raise no_such_path()
        if method == "GET":
            return add_warning_headers(self._get_handlers.get(scope), scope.warnings)
        if method == "PUT":
            return await update(self._registry, scope)
        if method == "PATCH":
            return await patch(self._registry, scope)
        raise not_allowed(scope.kind, method.lower())

    async def _handle_collection(self, scope: RequestScope, method: str) -> Response:
        if method == "GET":
            return add_warning_headers(self._get_handlers.list(scope), scope.warnings)
        if scope.kind.namespaced and scope.info.namespace is None:
            # A new object needs a namespace, and one request must not delete the objects of all
            # namespaces.
            raise method_not_allowed()
        if method == "POST":
            return await create(self._registry, scope)
        if method == "DELETE":
            return await self._delete_handlers.delete_collection(scope)
        raise not_allowed(scope.kind, {"PUT": "update"}.get(method, method.lower()))

    async def _handle_object(self, scope: RequestScope, method: str) -> Response:
        if method == "GET":
            watched = asks_to_watch(scope.request.query_params)
            return add_warning_headers(
                self._get_handlers.list(scope) if watched else self._get_handlers.get(scope),
                scope.warnings,
            )
        if method == "PUT":
            return await update(self._registry, scope)
        if method == "PATCH":
            return await patch(self._registry, scope)
        if method == "DELETE":
            return await self._delete_handlers.delete(scope)
        raise not_allowed(scope.kind, "create")


async def _error_response(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        # The path or the method does not exist.
        return status_response(no_such_path() if error.status_code == 404 else method_not_allowed())
    return status_response(error_to_status(error))


def _add_probes(app: FastAPI, health: Health) -> None:
    async def alive(verbose: str | None = None) -> Response:
        return PlainTextResponse(health.liveness().text(verbose=verbose is not None) + "\n")

    async def ready(verbose: str | None = None) -> Response:
        report = health.readiness()
        return PlainTextResponse(
            report.text(verbose=verbose is not None) + "\n",
            status_code=200 if report.passed else 503,
        )

    app.add_api_route("/livez", alive, methods=["GET"])
    app.add_api_route("/healthz", alive, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"])
