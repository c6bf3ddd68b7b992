"""Channels in a cluster whose ingress has a DNS name: the Service with the channel's own name, as
Knative's channels have it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.headrace_on_kubernetes import HeadraceOnKubernetes
from tests.support.headrace_under_test import Refused, kafka_for_headrace, wait_for_events
from tests.support.kubernetes import KubernetesUnderTest
from tests.support.manifests import Manifest, channel, subscription
from tests.support.wait_until import wait_until

NAMESPACE = "named"
INGRESS = "ingress.knative-eventing.svc.cluster.local"
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class WithNamedIngress(HeadraceOnKubernetes):
    """Its controller takes the ingress for one behind a Service, at port 80."""

    def options_of_controller(self) -> list[str]:
        """As `HeadraceOnKubernetes.options_of_controller`. The last of two values is used."""
        return [*super().options_of_controller(), "--ingress-url", f"http://{INGRESS}"]


@pytest.fixture
def headrace(kubernetes: KubernetesUnderTest, tmp_path: Path) -> Iterator[WithNamedIngress]:
    """An installation of this test's own."""
    with kafka_for_headrace(tmp_path) as apache:
        system = WithNamedIngress(apache.bootstrap_servers, tmp_path, kubernetes)
        try:
            system.start()
            yield system
        except BaseException:
            print(system.processes.report())
            raise
        finally:
            system.close()


def test_a_channel_has_a_service_while_it_exists(headrace: WithNamedIngress) -> None:
    """An ExternalName of the ingress, which is the address in the status: the ingress knows the
    channel by this Host. The controller's role allows it.
    """
    orders = channel(NAMESPACE, "orders")
    backing = channel(NAMESPACE, "orders", kind=headrace.channel_kind)
    headrace.establish(orders)
    headrace.establish(subscription(orders, "billing", headrace.sinks.url("billing")))
    host = f"orders-kn-channel.{NAMESPACE}.svc.cluster.local"
    for shown in (orders, backing):
        assert (headrace.get(shown) or {})["status"]["address"]["url"] == f"http://{host}"
    found = service(headrace)
    assert found is not None
    assert (found["spec"]["type"], found["spec"]["externalName"]) == ("ExternalName", INGRESS)
    [owner] = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == (headrace.channel_kind, "orders")

    event = {"ce-specversion": "1.0", "ce-id": "named.0", "ce-source": "/me", "ce-type": "sent"}
    assert headrace.post("/", {**event, "host": host}, b"{}") == 202
    wait_for_events(headrace, "billing", 1)

    headrace.delete(orders, backing)  # An API server alone collects no garbage.
    wait_until(lambda: service(headrace) is None, 20, "the Service is gone")


def service(headrace: WithNamedIngress) -> Manifest | None:
    """The channel's, None if there is none."""
    try:
        return headrace.call("GET", f"/api/v1/namespaces/{NAMESPACE}/services/orders-kn-channel")
    except Refused as refused:
        assert refused.status == 404, refused
        return None
