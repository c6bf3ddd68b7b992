"""The application: which path and method leads to which door, for every kind there is and will be.

All kinds share a few path patterns (`/api/v1/…`, `/apis/<group>/<version>/…`), read by `targets`; what kinds there are says the catalog at
the moment of the request. Every answer that is not what was asked for is a Status.
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
from headrace_controller.api.access import Doorkeeper, User, refuse_impersonation
from headrace_controller.api.doors.answers import Presentation, answer, status_answer, with_warnings
from headrace_controller.api.doors.directory import Directory
from headrace_controller.api.doors.first_writes import FirstWrites
from headrace_controller.api.doors.reading import ReadingDoors
from headrace_controller.api.doors.removing import RemovingDoors
from headrace_controller.api.doors.reviews import is_review, review
from headrace_controller.api.doors.scale import scale_of
from headrace_controller.api.doors.writing import WritingDoors
from headrace_controller.api.faults import status_of
from headrace_controller.api.guards import HostGuard
from headrace_controller.api.kinds.catalog import Catalog, ServedKind
from headrace_controller.api.requests.calls import Call
from headrace_controller.api.requests.options import asks_to_watch
from headrace_controller.api.requests.reading import media_type, read_body, read_document
from headrace_controller.api.requests.targets import Target, read_target
from headrace_controller.api.statuses import StatusError, method_not_allowed, no_such_path, not_allowed
from headrace_controller.api.work import Busy, Work

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_KUBERNETES = ("1", "32")
"""The Kubernetes version whose API this is: client libraries choose by it what they may ask."""


class ApiServer:
    """Doors behind paths."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        doorkeeper: Doorkeeper,
        reading: ReadingDoors,
        writing: WritingDoors,
        removing: RemovingDoors,
        first_writes: FirstWrites,
        work: Work,
        now: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._doorkeeper = doorkeeper
        self._reading = reading
        self._writing = writing
        self._removing = removing
        self._first_writes = first_writes
        self._work = work
        self._now = now
        self._directory = Directory(catalog)
        self._presentations: dict[int, tuple[ServedKind, Presentation]] = {}

    def application(self, health: Health, *, names: Container[str] | None) -> FastAPI:
        """The application. Host must be a loopback one or among `names`; None: any Host is answered."""
        app = FastAPI(title="Headrace controller", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
        _add_probes(app, health)
        openapi = ("/openapi/v2", "/openapi/v3", "/openapi/v3/{rest:path}")
        for path in ("/api", "/apis", "/api/v1", "/apis/{group}", "/apis/{group}/{version}", *openapi):
            app.add_api_route(path, self._describe, methods=["GET"])
        app.add_api_route("/version", self._version, methods=["GET"])
        app.add_api_route("/api/{version}/{rest:path}", self._about_kind, methods=_METHODS)
        app.add_api_route("/apis/{group}/{version}/{rest:path}", self._about_kind, methods=_METHODS)
        app.add_exception_handler(HTTPException, _refused)
        app.add_exception_handler(StatusError, _refused)
        app.add_exception_handler(Exception, _refused)
        app.add_middleware(Busy, work=self._work)
        if names is not None:
            app.add_middleware(HostGuard, names=names)
        return app

    async def _version(self, request: Request) -> Response:
        major, minor = _KUBERNETES
        told = {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.0+headrace-{__version__}", "platform": "headrace"}
        return answer({**told, "gitCommit": "", "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": ""})

    async def _describe(self, request: Request) -> Response:
        """Discovery and OpenAPI."""
        self._who(request)
        return await self._directory.answer(request)

    async def _about_kind(self, request: Request) -> Response:
        user = self._who(request)
        path = request.path_params
        group, version = path.get("group", ""), path["version"]
        target = read_target(group, version, path["rest"])
        if target is None:
            raise no_such_path()
        if request.method == "POST" and is_review(group, version, target.plural):
            body = await read_document(await read_body(request), media_type(request))
            return answer(review(group, target.plural, body.document, user), 201)
        call = self._call(request, target, user)
        try:
            if request.method != "GET":
                call = replace(call, held_seconds=await self._first_writes.wait())
            return await self._through(call)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = status_answer(status_of(error, call.kind, target.name))
            return with_warnings(response, call.warnings)

    def _who(self, request: Request) -> User:
        certificate: Mapping[str, Any] | None = request.scope.get("client_certificate")
        user = self._doorkeeper.who(request.headers, certificate)
        refuse_impersonation(request.headers, user)
        return user

    def _call(self, request: Request, target: Target, user: User) -> Call:
        served = self._catalog.of_path(target.group, target.version, target.plural)
        if served is None or served.kind.namespaced < (target.namespace is not None):
            raise no_such_path()
        if target.name and served.kind.namespaced and target.namespace is None:
            raise no_such_path()
        call = Call(request=request, target=target, served=served, user=user, presentation=self._presentation(served))
        if served.deprecation:
            call.warnings.append(served.deprecation)
        return call

    def _presentation(self, served: ServedKind) -> Presentation:
        """Made once per kind; a changed definition makes another kind, and those of old ones are dropped in time."""
        found = self._presentations.get(id(served))
        if found is None or found[0] is not served:
            if len(self._presentations) > 2_000:
                self._presentations.clear()
            found = self._presentations[id(served)] = (served, Presentation(served, self._now))
        return found[1]

    async def _through(self, call: Call) -> Response:
        method, target = call.request.method, call.target
        match target.subresource:
            case "":
                return await self._to_object(call, method) if target.name else await self._to_collection(call, method)
            case "status" if call.kind.has_status or target.plural == "namespaces":
                pass
            case "scale" if call.served.scale:
                if method == "GET":
                    found = call.presentation.view(self._reading.find(call).object)
                    return with_warnings(answer(scale_of(call.served, found)), call.warnings)
            case _:
                raise no_such_path()
        if method == "GET":
            return with_warnings(self._reading.get(call), call.warnings)
        if method in ("PUT", "PATCH"):
            return await (self._writing.replace(call) if method == "PUT" else self._writing.patch(call))
        raise not_allowed(call.kind, method.lower())

    async def _to_collection(self, call: Call, method: str) -> Response:
        if method == "GET":
            return with_warnings(self._reading.list(call), call.warnings)
        if call.kind.namespaced and call.target.namespace is None:
            # A new object stands in a namespace; and nobody deletes those of all namespaces with one request.
            raise method_not_allowed()
        if method == "POST":
            return await self._writing.create(call)
        if method == "DELETE":
            return await self._removing.delete_collection(call)
        raise not_allowed(call.kind, {"PUT": "update"}.get(method, method.lower()))

    async def _to_object(self, call: Call, method: str) -> Response:
        if method == "GET":
            watched = asks_to_watch(call.request.query_params)
            return with_warnings(self._reading.list(call) if watched else self._reading.get(call), call.warnings)
        if method == "PUT":
            return await self._writing.replace(call)
        if method == "PATCH":
            return await self._writing.patch(call)
        if method == "DELETE":
            return await self._removing.delete(call)
        raise not_allowed(call.kind, "create")


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        # A route or verb that does not exist.
        return status_answer(no_such_path() if error.status_code == 404 else method_not_allowed())
    return status_answer(status_of(error))


def _add_probes(app: FastAPI, health: Health) -> None:
    async def alive(verbose: str | None = None) -> Response:
        return PlainTextResponse(health.liveness().text(verbose=verbose is not None) + "\n")

    async def ready(verbose: str | None = None) -> Response:
        report = health.readiness()
        return PlainTextResponse(report.text(verbose=verbose is not None) + "\n", status_code=200 if report.passed else 503)

    app.add_api_route("/livez", alive, methods=["GET"])
    app.add_api_route("/healthz", alive, methods=["GET"])
    app.add_api_route("/readyz", ready, methods=["GET"])
