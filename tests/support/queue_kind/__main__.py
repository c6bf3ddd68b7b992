"""The product's controller with Queues registered, as a process: its argument is a JSON object."""

import asyncio
import json
import sys
from pathlib import Path

from headrace.runtime.logging import configure
from headrace.runtime.settings import KafkaSettings, LogSettings, ManagementSettings
from headrace_controller.app import run
from headrace_controller.reconcile.kinds import RECONCILERS
from headrace_controller.reconcile.registry import Reconcilers
from headrace_controller.settings import ControllerSettings, KubernetesSettings
from tests.support.queue_kind import QUEUES, READERS

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    logs = LogSettings()
    configure(logs, service="controller")
    sys.exit(
        asyncio.run(
            run(
                ControllerSettings(
                    port=given["port"],
                    ingress_url=given["ingress_url"],
                    dead_letter_grace_seconds=0,
                ),
                KafkaSettings(bootstrap_servers=given["bootstrap_servers"]),
                ManagementSettings(port=given["management_port"]),
                logs,
                KubernetesSettings(kubeconfig=Path(given["kubeconfig"]))
                if given["kubeconfig"]
                else None,
                Reconcilers(*RECONCILERS, QUEUES, READERS),
            )
        )
    )
