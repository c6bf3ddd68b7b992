"""An ApiServerSource of Headrace's own API: ConfigMaps that are created while it runs."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.headrace_under_test import HeadraceUnderTest

from bench.load import EVENT_BYTES
from bench.sources.figures import SourceFigures
from bench.sources.service import NAMESPACE, Service, source

CLIENTS = 8
"""At the same time: the API server stores what arrives together with one write."""


def measure(service: Service) -> SourceFigures:
    """The data of each event is the object, of which 1 KiB is the content."""
    events = service.sizes.objects
    with service.running():
        topic = service.broker("objects")
        service.establish(
            source(
                "ApiServerSource",
                "sources.knative.dev/v1",
                "objects",
                mode="Resource",
                resources=[{"apiVersion": "v1", "kind": "ConfigMap"}],
            )
        )
        return service.drain(
            topic,
            events,
            outside="creating the objects",
            send=lambda: _create(service.system, events),
        )


def _create(system: HeadraceUnderTest, events: int) -> None:
    path, content = f"/api/v1/namespaces/{NAMESPACE}/configmaps", "x" * EVENT_BYTES

    def create(number: int) -> None:
        metadata = {"name": f"object-{number}", "namespace": NAMESPACE}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        system.call("POST", path, {**manifest, "data": {"content": content}})

    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in clients.map(create, range(events)):
            pass
