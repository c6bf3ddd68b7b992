"""Discovery and OpenAPI: which kinds exist and what their fields mean. The documents are cached as
bytes until the catalog changes.
"""

import asyncio
from collections.abc import Mapping

from fastapi import Request
from starlette.responses import Response

from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.discovery import Discovery, aggregated_type, aggregated_version
from headrace_apiserver.kinds.openapi import OpenApi
from headrace_apiserver.kinds.openapi_v2 import ASKED_PROTOBUF, PROTOBUF, v2_json, v2_protobuf
from headrace_apiserver.responses import JSON, parse_accept
from headrace_apiserver.statuses import no_such_path, not_acceptable

_OPENAPI = "/openapi/v3"
_OPENAPI_V2 = "/openapi/v2"


class DiscoveryHandler:
    """Serves documents that depend only on the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._discovery = Discovery(catalog)
        self._openapi = OpenApi(catalog)
        self._document_lock = asyncio.Lock()

    async def handle(self, request: Request) -> Response:
        """GET of a discovery or OpenAPI path. Raises StatusError 404 for an unknown group or
        version, and 406.
        """
        path = request.url.path.rstrip("/")
        if path == _OPENAPI_V2:
            return _openapi_v2_response(request.headers.get("accept", ""))
        if path.startswith(_OPENAPI):
            return await self._openapi_response(request, path.removeprefix(_OPENAPI).strip("/"))
        version = aggregated_version(request.headers.get("accept", ""))
        if path in ("/api", "/apis"):
            core = path == "/api"
            if version is not None:
                return Response(
                    self._discovery.aggregated(core=core, version=version),
                    headers={"content-type": aggregated_type(version)},
                )
            return Response(
                self._discovery.core() if core else self._discovery.groups(), media_type=JSON
            )
        return _found(self._of_group(request.path_params))

    def _of_group(self, parts: Mapping[str, str]) -> bytes | None:
        group, version = parts.get("group", ""), parts.get("version")
        if version is None and group:
            return self._discovery.group(group)
        return self._discovery.resources(group, version or "v1")

    async def _openapi_response(self, request: Request, name: str) -> Response:
        if not name:
            return Response(self._openapi.index(), media_type=JSON)
        root, _, rest = name.partition("/")
        group, _, version = rest.rpartition("/")
        if (root, bool(group)) not in (("api", False), ("apis", True)):
            raise no_such_path()
        tag = f'"{self._openapi.digest(group, version)}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        async with self._document_lock:
            # The document of many kinds takes 0.1 s once, which must not block the loop. The lock
            # keeps concurrent requests from building it twice.
            document = await asyncio.to_thread(self._openapi.document, group, version)
        response = _found(document)
        response.headers["etag"] = tag
        return response


def _openapi_v2_response(accept: str) -> Response:
    for each in parse_accept(accept):
        if each.type in (ASKED_PROTOBUF, PROTOBUF):
            return Response(v2_protobuf(), media_type=PROTOBUF)
        if each.type in (JSON, "*/*", "application/*"):
            return Response(v2_json(), media_type=JSON)
    raise not_acceptable((JSON, ASKED_PROTOBUF))


def _found(document: bytes | None) -> Response:
    if document is None:
        raise no_such_path()
    return Response(document, media_type=JSON)
