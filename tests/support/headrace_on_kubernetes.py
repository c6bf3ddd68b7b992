"""A `HeadraceUnderTest` whose resources are stored in a Kubernetes API server: the same services,
the controller in cluster mode with its minimal role.
"""

from pathlib import Path
from typing import Any

import urllib3

from headrace_controller.reconcile.kinds import RECONCILERS
from tests.support.headrace_under_test import CALL_SECONDS, HeadraceUnderTest
from tests.support.kubernetes import CONTROLLER_TOKEN, SOURCES_TOKEN, KubernetesUnderTest

RBAC = Path(__file__).parents[2] / "examples" / "kubernetes" / "rbac.yaml"
SOURCE_KINDS = tuple(
    f"{each.plural}.{each.group}" for each in RECONCILERS.kinds if "sources" in each.group
)


class HeadraceOnKubernetes(HeadraceUnderTest):
    """Resources are applied to the API server as its administrator; the controller uses its service
    account.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        directory: Path,
        kubernetes: KubernetesUnderTest,
        *,
        rbac: Path = RBAC,
        **options: Any,
    ) -> None:
        super().__init__(bootstrap_servers, directory, **options)
        self.kubernetes = kubernetes
        kubernetes.kubectl("apply", "-f", str(rbac))
        self._as_controller = kubernetes.kubeconfig_of("controller", CONTROLLER_TOKEN)
        self._as_sources = kubernetes.kubeconfig_of("sources", SOURCES_TOKEN)
        self._api = urllib3.PoolManager(
            timeout=urllib3.Timeout(CALL_SECONDS),
            retries=False,
            ca_certs=str(kubernetes.ca),
            headers=kubernetes.authorization,
        )

    def options_of_controller(self) -> list[str]:
        """As `HeadraceUnderTest.options_of_controller`: it has no API of its own."""
        return ["--kubeconfig", str(self._as_controller), "--ingress-url", self.ingress_url]

    def options_of_sources(self) -> list[str]:
        """As `HeadraceUnderTest.options_of_sources`, with the service account of the sources."""
        return ["--kubeconfig", str(self._as_sources)]

    def request_api(
        self, method: str, path: str, content: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        """Call the cluster's API server."""
        return self._api.request(
            method,
            f"{self.kubernetes.server}{path}",
            body=content,
            headers={"Content-Type": "application/json", **self._api.headers},
        )

    def close(self) -> None:
        """End all processes and delete everything from the API server, which outlives this
        installation.
        """
        super().close()
        # `use_channels`: the next installation has its own default.
        defaults = ("configmap", "default-ch-webhook", "-n", "knative-eventing")
        self.kubernetes.kubectl("delete", *defaults, "--ignore-not-found", check=False)
        for kind in (
            *SOURCE_KINDS,
            "subscriptions.eventing.knative.dev",
            "channels.eventing.knative.dev",
            "triggers",
            "brokers",
            "subscriptions.messaging.knative.dev",
            "channels.messaging.knative.dev",
            "kafkachannels",
            "inmemorychannels",
            "natsjetstreamchannels",
        ):
            found = self.kubernetes.kubectl(
                "get",
                kind,
                "-A",
                "--no-headers",
                "-o",
                "custom-columns=:metadata.namespace,:metadata.name",
            ).stdout
            for line in found.splitlines():
                there = (kind, line.split()[1], "-n", line.split()[0])
                # Its controller has stopped, nothing else removes the finalizer.
                self.kubernetes.kubectl(
                    "patch",
                    *there,
                    "--type=merge",
                    "-p",
                    '{"metadata":{"finalizers":null}}',
                    check=False,
                )
                self.kubernetes.kubectl("delete", *there, "--ignore-not-found", check=False)
