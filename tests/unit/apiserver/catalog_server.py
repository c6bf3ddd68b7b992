"""A small HTTP server that serves discovery and OpenAPI from a catalog, so that the real kubectl
can read them without an API server.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from urllib.parse import urlsplit

import pytest

from headrace_apiserver.kinds.catalog import Catalog
from headrace_apiserver.kinds.discovery import Discovery, aggregated_type, aggregated_version
from headrace_apiserver.kinds.openapi import OpenApi

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


class CatalogServer:
    """A context manager that serves on a free loopback port. With `aggregated=False` it supports
    only unaggregated discovery.
    """

    def __init__(self, catalog: Catalog, *, aggregated: bool = True) -> None:
        self._discovery = Discovery(catalog)
        self._openapi = OpenApi(catalog)
        self._aggregated = aggregated
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, media_type, body = answer(
                    urlsplit(self.path).path, self.headers.get("Accept", "")
                )
                self.send_response(code)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "CatalogServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Code, media type and body."""
        version = aggregated_version(accept) if self._aggregated else None
        body: bytes | None
        match path.strip("/").split("/"):
            case ["api" | "apis" as root] if version is not None:
                return (
                    200,
                    aggregated_type(version),
                    self._discovery.aggregated(core=root == "api", version=version),
                )
            case ["api"]:
                body = self._discovery.core()
            case ["apis"]:
                body = self._discovery.groups()
            case ["api", version]:
                body = self._discovery.resources("", version)
            case ["apis", group, version]:
                body = self._discovery.resources(group, version)
            case ["openapi", "v3"]:
                body = self._openapi.index()
            case ["openapi", "v3", "api", version]:
                body = self._openapi.document("", version)
            case ["openapi", "v3", "apis", group, version]:
                body = self._openapi.document(group, version)
            case _:
                body = None
        if body is None:
            return (
                404,
                "application/json",
                b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}',
            )
        return 200, "application/json", body


def kubectl_run(server: CatalogServer, home: Path, *arguments: str) -> str:
    """The output of kubectl. Fails with its error output."""
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KUBECONFIG": os.devnull,
    }
    command = [
        "kubectl",
        f"--server={server.url}",
        f"--cache-dir={home / 'cache'}",
        "--request-timeout=20s",
        *arguments,
    ]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
