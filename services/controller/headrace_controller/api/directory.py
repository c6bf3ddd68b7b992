"""Discovery and OpenAPI at the door: what kinds there are and what their fields mean, as ready bytes until the catalog changes.

kubectl asks for all of it at once and often, so it is made once per revision of the catalog and answered from memory.
"""

from fastapi import Request
from starlette.responses import Response

from headrace_controller.api.catalog import Catalog
from headrace_controller.api.statuses import no_such_path


class Directory:
    """Answers that depend on nothing but the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def answer(self, request: Request) -> Response:
        raise no_such_path()
